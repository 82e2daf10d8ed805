// The day of a user of the SDK for JavaScript: node steps.mjs STEP BUCKET; endpoint and keys are in the environment.
// The first claim that does not hold ends it with status 1.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

import * as S3 from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const MIB = 1024 ** 2;
const ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"];
const [step, Bucket] = process.argv.slice(2);
const client = new S3.S3Client({ region: "us-east-1", forcePathStyle: true, maxAttempts: 1 });

const send = (command, input) => client.send(new S3[`${command}Command`]({ Bucket, ...input }));
const body = async (Key, more) => buffer((await send("GetObject", { Key, ...more })).Body);
const refusal = (promise) => promise.then(() => assert.fail("was not refused"), (error) => error);

async function keys() {
  const found = [];
  for await (const page of S3.paginateListObjectsV2({ client, pageSize: 3 }, { Bucket })) {
    found.push(...(page.Contents ?? []).map((entry) => entry.Key));
  }
  return found;
}

// A stream whose bytes come in pieces of odd sizes; what is sent of it is signed by no header.
const stream = (bytes) =>
  Readable.from((function* () {
    for (let start = 0; start < bytes.length; start += 70_001) yield bytes.subarray(start, start + 70_001);
  })());

const upload = (Key, Body, more) =>
  new Upload({ client, partSize: 5 * MIB, queueSize: 3, params: { Bucket, Key, Body, ...more } }).done();

const steps = {
  async buckets() {
    const made = { Bucket: `${Bucket}-made` };
    await send("CreateBucket", made);
    await S3.waitUntilBucketExists({ client, maxWaitTime: 20 }, made);
    const { Buckets } = await client.send(new S3.ListBucketsCommand({}));
    assert(Buckets.some((bucket) => bucket.Name === made.Bucket));
    await send("PutObject", { ...made, Key: "k", Body: "x" });
    assert.equal((await refusal(send("DeleteBucket", made))).name, "BucketNotEmpty");
    await send("DeleteObject", { ...made, Key: "k" });
    await send("DeleteBucket", made);
    assert.equal((await refusal(send("HeadBucket", made))).$metadata.httpStatusCode, 404);
  },

  async objects() {
    for (const size of [0, 1, 300_000]) {
      const bytes = randomBytes(size);
      const Key = `dir/a b+ü/${size}`;
      const put = await send("PutObject", { Key, Body: bytes, Metadata: { colour: "blue" }, Tagging: "who=a%20b" });
      assert.equal(put.ETag, `"${createHash("md5").update(bytes).digest("hex")}"`);
      const got = await send("GetObject", { Key, ChecksumMode: "ENABLED" });
      assert.deepEqual(await buffer(got.Body), bytes);
      assert.deepEqual(got.Metadata, { colour: "blue" });
      assert.equal(got.ContentLength, size);
      const head = await send("HeadObject", { Key });
      assert.equal(head.ContentLength, size);
      assert.deepEqual((await send("GetObjectTagging", { Key })).TagSet, [{ Key: "who", Value: "a b" }]);
    }
    const listed = await send("ListObjectsV2", { Delimiter: "/", Prefix: "dir/" });
    assert.deepEqual(listed.CommonPrefixes, [{ Prefix: "dir/a b+ü/" }]);
    assert.equal((await body("dir/a b+ü/300000", { Range: "bytes=5-9" })).length, 5);
    await S3.waitUntilObjectExists({ client, maxWaitTime: 20 }, { Bucket, Key: "dir/a b+ü/0" });
    assert.equal((await refusal(send("GetObject", { Key: "not" }))).name, "NoSuchKey");
    assert.equal((await refusal(send("PutObject", { Key: "dir/a b+ü/0", IfNoneMatch: "*" }))).name, "PreconditionFailed");
  },

  // Bodies that are streams go in chunks, with their checksum behind them.
  async streams() {
    for (const ChecksumAlgorithm of ALGORITHMS) {
      const bytes = randomBytes(2 * MIB + 5);
      const sent = { Key: "k", Body: stream(bytes), ContentLength: bytes.length, ChecksumAlgorithm };
      const put = await send("PutObject", sent);
      assert.equal(put.ETag, `"${createHash("md5").update(bytes).digest("hex")}"`);
      const got = await send("GetObject", { Key: "k", ChecksumMode: "ENABLED" });
      assert.equal(got[`Checksum${ChecksumAlgorithm}`], put[`Checksum${ChecksumAlgorithm}`]);
      assert(put[`Checksum${ChecksumAlgorithm}`]);
      assert.equal(got.ContentEncoding, undefined);
      assert.deepEqual(await buffer(got.Body), bytes);
    }
  },

  async parts() {
    const bytes = randomBytes(17 * MIB + 3);
    for (const ChecksumAlgorithm of [undefined, ...ALGORITHMS]) {
      const done = await upload("k", stream(bytes), { ChecksumAlgorithm, ContentType: "text/x" });
      assert.match(done.ETag, /-4"$/);
      const got = await send("GetObject", { Key: "k", ChecksumMode: "ENABLED" });
      assert.equal(got.ContentType, "text/x");
      assert.deepEqual(await buffer(got.Body), bytes);
      assert.deepEqual(await body("k", { PartNumber: 4 }), bytes.subarray(15 * MIB));
    }
    const broken = Readable.from((async function* () {
      yield bytes.subarray(0, 11 * MIB);
      throw new Error("the source broke");
    })());
    assert.equal((await refusal(upload("broken", broken))).message, "the source broke");
    assert.equal((await send("ListMultipartUploads")).Uploads, undefined);
    assert.deepEqual(await keys(), ["k"]);
  },

  async copies() {
    const bytes = randomBytes(11 * MIB);
    const CopySource = encodeURI(`${Bucket}/a ü`);
    await upload("a ü", bytes, { Metadata: { colour: "blue" } });
    await send("CopyObject", { Key: "copy", CopySource });
    assert.deepEqual((await send("HeadObject", { Key: "copy" })).Metadata, { colour: "blue" });
    assert.deepEqual(await body("copy"), bytes);
    const { UploadId } = await send("CreateMultipartUpload", { Key: "joined" });
    const Parts = [];
    for (const [number, range] of [`0-${6 * MIB - 1}`, `3-${MIB}`].entries()) {
      const part = { Key: "joined", UploadId, PartNumber: number + 1, CopySource, CopySourceRange: `bytes=${range}` };
      const { CopyPartResult } = await send("UploadPartCopy", part);
      Parts.push({ PartNumber: number + 1, ETag: CopyPartResult.ETag });
    }
    await send("CompleteMultipartUpload", { Key: "joined", UploadId, MultipartUpload: { Parts } });
    assert.deepEqual(await body("joined"), Buffer.concat([bytes.subarray(0, 6 * MIB), bytes.subarray(3, MIB + 1)]));
  },

  async presigned() {
    const bytes = randomBytes(100_000);
    const signed = (command, input, expiresIn = 60) =>
      getSignedUrl(client, new S3[`${command}Command`]({ Bucket, Key: "a b+ü", ...input }), { expiresIn });
    const put = await fetch(await signed("PutObject"), { method: "PUT", body: bytes });
    assert.equal(put.status, 200, await put.text());
    const got = await fetch(await signed("GetObject", { ResponseContentType: "text/x" }));
    assert.equal(got.headers.get("content-type"), "text/x");
    assert.deepEqual(Buffer.from(await got.arrayBuffer()), bytes);
    const brief = await signed("GetObject", {}, 1);
    await sleep(2100);
    const late = await fetch(brief);
    assert.equal(late.status, 403);
    assert.match(await late.text(), /<Code>AccessDenied</);
  },

  async removing() {
    for (let number = 0; number < 8; number += 1) await send("PutObject", { Key: `ü&<${number}>`, Body: "" });
    assert.equal((await keys()).length, 8);
    await send("DeleteObject", { Key: "ü&<0>" });
    await S3.waitUntilObjectNotExists({ client, maxWaitTime: 20 }, { Bucket, Key: "ü&<0>" });
    const gone = await send("DeleteObjects", { Delete: { Objects: (await keys()).map((Key) => ({ Key })) } });
    assert.equal(gone.Deleted.length, 7);
    assert.equal(gone.Errors, undefined);
    assert.deepEqual(await keys(), []);
  },

  async coldUpload() {
    await upload("k", Buffer.alloc(11 * MIB, "cold"), { StorageClass: "GLACIER" });
    await steps.coldRefused();
  },

  async coldRefused() {
    const error = await refusal(send("GetObject", { Key: "k" }));
    assert.deepEqual([error.name, error.StorageClass], ["InvalidObjectState", "GLACIER"]);
  },

  async coldRestored() {
    await steps.coldRefused();
    await send("RestoreObject", { Key: "k", RestoreRequest: { Days: 1, GlacierJobParameters: { Tier: "Standard" } } });
    const end = Date.now() + 200_000;
    while (!(await send("HeadObject", { Key: "k" })).Restore.startsWith('ongoing-request="false"')) {
      assert(Date.now() < end, "was not restored in time");
      await sleep(300);
    }
    assert.deepEqual(await body("k"), Buffer.alloc(11 * MIB, "cold"));
  },
};

await steps[step]();

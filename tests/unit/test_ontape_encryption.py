"""An encrypted object is decrypted by hand: with what README.txt of a cartridge says, from the bytes of a member."""

import json
import subprocess
import sys
import tarfile
from base64 import b64decode, b64encode
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from twisted.trial.unittest import SynchronousTestCase

import coldstore.ontape
from coldstore.model.cartridges import VolumeForm
from coldstore.model.objects import ObjectVersion, VersionFacts
from coldstore.ontape.bundle import BundleMember, layout
from coldstore.ontape.member import facts_on_tape
from coldstore.ontape.readme import DECRYPT_BEGIN, DECRYPT_END, DECRYPT_SCRIPT
from coldstore.ontape.volume import VolumeLabel, readme_text
from coldstore.s3.multipart_plan import PART_MIN_BYTES
from coldstore.util.checksums import crc64nvme
from tests.fixtures.make_cartridges import make_plan, tar_bytes
from tests.unit.encryption_keys import KEY, OTHER_KEY, key_headers
from tests.unit.s3_rig import Rig, text_of

LABEL = VolumeLabel(
    appliance_id="a", pool="main", barcode="A00001L9", volume_uuid="u", admitted_at=0.0, admitted_by="me"
)
NAMES = ("plain.bin", "ü ~%/x", "parts", "empty")


class DecryptScriptTests(SynchronousTestCase):
    """``decrypt-object.py``."""

    def setUp(self) -> None:
        """Cut it out of README.txt, and put objects."""
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        (self.folder / "README.txt").write_text(readme_text(LABEL, VolumeForm.LTFS), "utf-8")
        lines = (self.folder / "README.txt").read_text("utf-8").splitlines()
        at = next(number for number, line in enumerate(lines) if "> decrypt-object.py" in line)
        command = "\n".join(lines[at - 1 : at + 1])
        subprocess.run(["sh", "-c", command], cwd=self.folder, check=True, timeout=20)
        self.rig = Rig(sse_c_over_http=True)
        self.rig.put("/bkt")
        random = Random(1)
        self.plain = {
            "plain.bin": random.randbytes(150_000),
            "ü ~%/x": b"awkward",
            "parts": random.randbytes(PART_MIN_BYTES + 65_537),
            "empty": b"",
        }
        headers = key_headers()
        for name in ("plain.bin", "%C3%BC%20~%25/x", "empty"):
            key = "ü ~%/x" if name.endswith("/x") else name
            self.assertEqual(self.rig.ask("PUT", f"/bkt/{name}", self.plain[key], headers).status, 200)
        upload = text_of(self.rig.ask("POST", "/bkt/parts?uploads", b"", headers).body, "UploadId")
        parts = ""
        for number, body in (
            (1, self.plain["parts"][:PART_MIN_BYTES]),
            (2, self.plain["parts"][PART_MIN_BYTES:]),
        ):
            target = f"/bkt/parts?uploadId={upload}&partNumber={number}"
            etag = self.rig.ask("PUT", target, body, headers).headers["etag"]
            parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        completed = self.rig.ask("POST", f"/bkt/parts?uploadId={upload}", document, headers)
        self.assertEqual(completed.status, 200)

    def test_by_the_appliance(self) -> None:
        """What the appliance has encrypted is decrypted with the export of its keys, before and after a change of the key; the tape has no ETag of it."""
        headers = {"x-amz-server-side-encryption": "AES256"}
        for name in ("plain.bin", "%C3%BC%20~%25/x", "empty"):
            key = "ü ~%/x" if name.endswith("/x") else name
            self.assertEqual(self.rig.ask("PUT", f"/bkt/{name}", self.plain[key], headers).status, 200)
        parts = self.plain["parts"]
        upload = text_of(self.rig.ask("POST", "/bkt/parts?uploads", b"", headers).body, "UploadId")
        listed = ""
        for number, body in ((2, parts[:PART_MIN_BYTES]), (9, parts[PART_MIN_BYTES:])):
            put = self.rig.ask("PUT", f"/bkt/parts?uploadId={upload}&partNumber={number}", body)
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{put.headers['etag']}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        self.assertEqual(self.rig.ask("POST", f"/bkt/parts?uploadId={upload}", document).status, 200)
        ring = self.rig.data_keys
        (self.folder / "before").write_text(ring.text(), "ascii")
        self.successResultOf(ring.rotate())
        (self.folder / "export").write_text(ring.text(), "ascii")
        lines = ring.text().splitlines()
        without = "\n".join(line for line in lines if " retired " not in line)
        (self.folder / "without").write_text(without, "ascii")
        (self.folder / "exchanged").write_text(without.replace(ring.ids()[1], ring.ids()[0]), "ascii")
        for name in NAMES:
            version = self.rig.version("bkt", name.encode())
            etag = version.facts.etag
            stored = self.stored(version.facts, version.layout_id)
            facts = self.facts_of_member(version, stored)
            self.assertNotIn(etag, facts)
            self.assertIn('"etag":"",', facts)
            (self.folder / "facts").write_text(facts, "utf-8")
            for keys in ("before", "export"):
                self.assertEqual(self.decrypted(keys, stored), (0, self.plain[name]), (name, keys))
            self.assertEqual(self.decrypted("without", stored), (4, b""))
            self.assertEqual(self.decrypted("exchanged", stored), (4, b""))
            if stored:
                self.assertEqual(self.decrypted("export", stored[:-1] + bytes([stored[-1] ^ 1]))[0], 4)
            if name == "parts":
                sizes = json.loads(facts)["encryption"]
                self.assertEqual(sizes["part_numbers"], "2,9")
            for field in ("size_bytes", "chunk_bytes", "part_sizes"):
                record = json.loads(facts)
                value = record["encryption"][field]
                record["encryption"][field] = f"{value}1" if field == "part_sizes" else value + 1
                (self.folder / "facts").write_text(json.dumps(record), "utf-8")
                self.assertEqual(self.decrypted("export", stored), (4, b""))
            key = ring.unwrap(version.wrapped_key, version.facts.encryption.bound_to("bkt", name.encode()))  # type: ignore[union-attr]
            self.assertEqual(self.opened_etag(key, facts), etag)

    def opened_etag(self, object_key: bytes, facts: str) -> str:
        """Decrypt an ETag as the format has it."""
        raw = b64decode(json.loads(facts)["encryption"]["etag"])
        secret = HKDF(SHA256(), 32, b"", b"coldstore sse-c checksum 1").derive(object_key)
        return AESGCM(secret).decrypt(raw[:12], raw[12:], b"etag").decode()

    def facts_of_member(self, version: ObjectVersion, content: bytes) -> str:
        """Return the facts in the header of the member that a version becomes."""
        member = BundleMember(
            facts=facts_on_tape(version.facts),
            version_uid=1,
            sequence=1,
            extent=0,
            extent_count=1,
            object_offset_bytes=0,
            length_bytes=len(content),
            crc64nvme=crc64nvme(content),
        )
        path = self.folder / "one.tar"
        path.write_bytes(tar_bytes(layout(make_plan(1, (member,))), (content,)))
        with tarfile.open(path) as tar:
            info = tar.next()
            assert info is not None
            return info.pax_headers["comment"].split(" ", 3)[3]

    def test_etag_in_the_clear(self) -> None:
        """Nobody can make a member that says the ETag of what the appliance has encrypted."""
        self.rig.ask("PUT", "/bkt/k", b"x", {"x-amz-server-side-encryption": "AES256"})
        version = self.rig.version("bkt", b"k")
        with self.assertRaises(ValueError):
            BundleMember(
                facts=version.facts,
                version_uid=1,
                sequence=1,
                extent=0,
                extent_count=1,
                object_offset_bytes=0,
                length_bytes=version.facts.size_bytes,
                crc64nvme=1,
            )

    def stored(self, facts: VersionFacts, layout_id: str) -> bytes:
        """Return the bytes of a version as they are on the disk."""
        pieces = self.successResultOf(self.rig.store.pieces(layout_id, after_ordinal=0, limit=9))
        found = b"".join(bytes(self.rig.staging.medium.pieces[piece.address].content) for piece in pieces)
        self.assertEqual(len(found), facts.size_bytes)
        return found

    def test_from_a_member(self) -> None:
        """Bytes and facts are taken from the tar file alone; the right key gives the object, another one nothing."""
        members, contents = [], []
        for number, name in enumerate(NAMES):
            version = self.rig.version("bkt", name.encode())
            content = self.stored(version.facts, version.layout_id)
            members.append(
                BundleMember(
                    facts=version.facts,
                    version_uid=number,
                    sequence=number,
                    extent=0,
                    extent_count=1,
                    object_offset_bytes=0,
                    length_bytes=len(content),
                    crc64nvme=crc64nvme(content),
                )
            )
            contents.append(content)
        path = self.folder / "bundle.tar"
        path.write_bytes(tar_bytes(layout(make_plan(1, tuple(members))), tuple(contents)))
        (self.folder / "right").write_bytes(KEY)
        (self.folder / "right.base64").write_bytes(b64encode(KEY) + b"\n")
        (self.folder / "wrong").write_bytes(OTHER_KEY)
        with tarfile.open(path) as tar:
            for info, name in zip(tar, NAMES, strict=False):
                stream = tar.extractfile(info)
                assert stream is not None
                stored = stream.read()
                facts = info.pax_headers["comment"].split(" ", 3)[3]
                self.assertNotIn(b64encode(KEY).decode(), facts)
                (self.folder / "facts").write_text(facts, "utf-8")
                plain = self.plain[name]
                for key in ("right", "right.base64"):
                    self.assertEqual(self.decrypted(key, stored), (0, plain), name)
                self.assertEqual(self.decrypted("wrong", stored), (4, b""))
                if stored:
                    self.assertEqual(self.decrypted("right", stored[:-1])[0], 4)
                    self.assertEqual(self.decrypted("right", stored[:-1] + bytes([stored[-1] ^ 1]))[0], 4)

    def decrypted(self, key: str, stored: bytes) -> tuple[int, bytes]:
        """Run the script; return its exit status and what it wrote."""
        done = subprocess.run(
            [sys.executable, "decrypt-object.py", key, "facts"],
            cwd=self.folder,
            input=stored,
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertNotIn(b"Traceback", done.stderr)
        return done.returncode, done.stdout

    def test_is_in_the_format(self) -> None:
        """The document of the format has the very same script; both end in lines that fit a terminal."""
        document = (Path(coldstore.ontape.__file__).parent / "FORMAT.md").read_text("utf-8")
        self.assertIn(f"```python\n{DECRYPT_SCRIPT}```", document)
        for form in VolumeForm:
            text = readme_text(LABEL, form)
            words = text[text.index("7. Encrypted objects") :]
            self.assertLessEqual(max(map(len, words.splitlines())), 80)
            lines = text.splitlines()
            self.assertEqual((lines.count(DECRYPT_BEGIN), lines.count(DECRYPT_END)), (1, 1))

"""
The words of ``README.txt`` and the shell script in it, for somebody who has the cartridge and nothing else.

The script needs a POSIX shell and what any Linux has: awk, cut, dd, gzip, head, md5sum, mkfifo, mktemp, sed, sha256sum,
sort, tail, tee, tr, wc. It never writes to a cartridge. A second one, for objects that are encrypted, needs Python
and the package ``cryptography``; ``FORMAT.md`` has the same one.
"""

SCRIPT_BEGIN = "-----8<----- get-object.sh"
SCRIPT_END = "-----8<----- end of get-object.sh"

GET_OBJECT_SCRIPT = r"""#!/bin/sh
# get-object.sh MOUNTPOINT... BUCKET KEY [VERSION]
# Writes an object from mounted cartridges to standard output and the line of
# its metadata (JSON) to standard error. Without VERSION: the newest one that
# the mounted cartridges hold. With CHECK_BUNDLES=1 in the environment the
# bundles are read whole first and their SHA-256 compared.
# Exit status: 0 done and complete, 1 not found, 2 wrong use, 3 a part is on
# a cartridge that is not mounted, 4 damaged.
set -u
LC_ALL=C
export LC_ALL

say() { printf 'get-object.sh: %s\n' "$*" >&2; }

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 4' HUP INT TERM

mounts=0
while [ $# -gt 0 ] && [ -f "$1/coldstore/volume.json" ]; do
    mounts=$((mounts + 1))
    ln -s "$(cd -- "$1" && pwd -P)" "$work/mount$mounts" || exit 2
    shift
done
if [ $mounts -eq 0 ] || [ $# -lt 2 ] || [ $# -gt 3 ]; then
    say 'use: sh get-object.sh MOUNTPOINT... BUCKET KEY [VERSION]'
    say 'a MOUNTPOINT is the directory in which coldstore/volume.json lies'
    exit 2
fi
WANT_BUCKET=$1 WANT_KEY=$2 WANT_VERSION=${3-}
export WANT_BUCKET WANT_KEY WANT_VERSION

# part FILE OFFSET LENGTH: a run of bytes; offsets in bundles are multiples of 512.
part() {
    dd if="$1" bs=512 skip=$(($2 / 512)) count=$((($3 + 511) / 512)) 2>>"$work/dd" | head -c "$3"
}

# find_lines MOUNT: of the lines of manifests on standard input, those of the object.
cat >"$work/find.awk" <<'AWK'
function quote(text,    result, i, c) {
    result = "\""
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        result = result ((c in escape) ? escape[c] : c)
    }
    return result "\""
}
function after(line, name,    place) {
    place = index(line, "\"" name "\":")
    return place ? substr(line, place + length(name) + 3) : ""
}
function number(line, name,    rest) {
    rest = after(line, name)
    return match(rest, /^[0-9]+/) ? substr(rest, 1, RLENGTH) : "-"
}
function word(line, name,    rest) {
    rest = substr(after(line, name), 2)
    return substr(rest, 1, index(rest, "\"") - 1)
}
BEGIN {
    for (i = 1; i < 32; i++) escape[sprintf("%c", i)] = sprintf("\\u%04x", i)
    escape["\b"] = "\\b"; escape["\f"] = "\\f"; escape["\n"] = "\\n"
    escape["\r"] = "\\r"; escape["\t"] = "\\t"
    escape["\""] = "\\\""; escape["\\"] = "\\\\"
    start = "{\"bucket\":" quote(ENVIRON["WANT_BUCKET"])
    start = start ",\"key\":" quote(ENVIRON["WANT_KEY"]) ",\"version_id\":\""
    version = ENVIRON["WANT_VERSION"]
}
index($0, "{\"bundle_file\":") == 1 {
    print word($0, "bundle_id"), word($0, "sha256") >>(work "/hashes")
}
index($0, "{\"coldstore_bundle_manifest\":") == 1 { bundle = word($0, "bundle_id") }
index($0, "{\"end_of_manifest\":") == 1 { print bundle >>(work "/known" mount) }
index($0, start) == 1 {
    rest = substr($0, length(start) + 1)
    found = substr(rest, 1, index(rest, "\"") - 1)
    if (version != "" && found != version) next
    print number(rest, "sequence") "\t" number(rest, "extent") "\t" \
        number(rest, "extent_count") "\t" number(rest, "data_offset_bytes") "\t" \
        number(rest, "length_bytes") "\t" number(rest, "size_bytes") "\t" \
        "mount" mount "/coldstore/bundles/" bundle ".tar\t" $0 >>(work "/found")
}
AWK
find_lines() { awk -v work="$work" -v mount="$1" -f "$work/find.awk"; }

: >"$work/found"
: >"$work/hashes"
m=1
while [ $m -le $mounts ]; do
    : >"$work/known$m"
    # The manifests of sessions lie where the drive reads them quickly.
    for file in "$work/mount$m"/coldstore/sessions/*.manifest; do
        [ -f "$file" ] || continue
        if ! tail -n +2 "$file" | gzip -dc 2>"$work/gzip" >"$work/session"; then
            say "damaged, its bundles are asked one by one: ${file##*/}"
            continue
        fi
        find_lines $m <"$work/session"
    done
    # Bundles that none of them names: their own manifests, found from the end.
    for file in "$work/mount$m"/coldstore/bundles/*.tar; do
        [ -f "$file" ] || continue
        bundle=${file##*/}
        grep -q -x -F -e "${bundle%.tar}" "$work/known$m" && continue
        last=$(tail -c 2048 "$file" | tr -d '\000' | tail -n 1)
        offset=$(printf '%s\n' "$last" | sed -n 's/.*"manifest_offset_bytes":\([0-9]*\).*/\1/p')
        length=$(printf '%s\n' "$last" | sed -n 's/.*"manifest_length_bytes":\([0-9]*\).*/\1/p')
        if [ -z "$offset" ] || [ -z "$length" ]; then
            say "has no end and is left out: $bundle"
            continue
        fi
        part "$file" "$offset" "$length" | find_lines $m
    done
    m=$((m + 1))
done

tab=$(printf '\t')
newest=$(sort -t "$tab" -k 1,1n "$work/found" | tail -n 1 | cut -f 1)
if [ -z "$newest" ]; then
    say 'not found on the mounted cartridges'
    exit 1
fi
awk -F '\t' -v newest="$newest" '($1 "") == (newest "")' "$work/found" >"$work/chosen"
count=$(head -n 1 "$work/chosen" | cut -f 3)
size=$(head -n 1 "$work/chosen" | cut -f 6)

# One place for each part; copies of a bundle are equal, the first present one serves.
: >"$work/plan"
extent=0
while [ $extent -lt "$count" ]; do
    awk -F '\t' -v extent=$extent '($2 "") == (extent "") { print $4 "\t" $5 "\t" $7 }' "$work/chosen" \
        >"$work/places"
    place=
    while IFS=$tab read -r offset length file; do
        [ -f "$work/$file" ] || continue
        [ "$(wc -c <"$work/$file")" -ge $((offset + length)) ] || continue
        place="$offset$tab$length$tab$file"
        break
    done <"$work/places"
    if [ -z "$place" ]; then
        say "part $((extent + 1)) of $count is on no mounted cartridge; mount its cartridge too and name it"
        exit 3
    fi
    printf '%s\n' "$place" >>"$work/plan"
    extent=$((extent + 1))
done

if [ "${CHECK_BUNDLES-}" = 1 ]; then
    cut -f 3 "$work/plan" | sort -u >"$work/bundles"
    while read -r file; do
        bundle=${file##*/}
        recorded=$(awk -v id="${bundle%.tar}" '$1 == id { print $2; exit }' "$work/hashes")
        [ -n "$recorded" ] ||
            recorded=$(getfattr --only-values --absolute-names -n user.ltfs.hash.sha256sum "$work/$file" 2>/dev/null)
        actual=$(sha256sum <"$work/$file" | cut -d ' ' -f 1)
        if [ -z "$recorded" ]; then
            say "no recorded SHA-256 of $bundle; it is $actual"
        elif [ "$recorded" != "$actual" ]; then
            say "SHA-256 of $bundle is $actual, recorded is $recorded"
            exit 4
        fi
    done <"$work/bundles"
fi

head -n 1 "$work/chosen" | cut -f 8 >&2
mkfifo "$work/to-md5" "$work/to-wc" || exit 2
md5sum <"$work/to-md5" >"$work/md5" &
wc -c <"$work/to-wc" >"$work/size" &
while IFS=$tab read -r offset length file; do
    [ "$length" -eq 0 ] || part "$work/$file" "$offset" "$length"
done <"$work/plan" | tee "$work/to-md5" "$work/to-wc"
wait
written=$(tr -d ' ' <"$work/size")
if [ "$written" != "$size" ]; then
    say "only $written of $size bytes could be read"
    exit 4
fi
# The ETag of an object that was not uploaded in parts is its MD5.
etag=$(head -n 1 "$work/chosen" | sed -n 's/.*,"etag":"\([0-9a-f]*\)","part_sizes":"".*/\1/p')
if [ ${#etag} -eq 32 ] && [ "$(cut -d ' ' -f 1 "$work/md5")" != "$etag" ]; then
    say "the MD5 is $(cut -d ' ' -f 1 "$work/md5"), the ETag says $etag"
    exit 4
fi
"""

DECRYPT_BEGIN = "-----8<----- decrypt-object.py"
DECRYPT_END = "-----8<----- end of decrypt-object.py"

DECRYPT_SCRIPT = r"""#!/usr/bin/env python3
# decrypt-object.py KEYS FACTS <STORED >OBJECT
# Decrypts an object that came off a tape. FACTS is a file with the object's
# line of metadata. KEYS is one with the keys of data that the appliance's
# operator has exported, if that line has "master_key"; if it has "key_md5",
# one with the owner's key (32 bytes, or their base64). Needs the Python
# package "cryptography". Exit status: 0 done, 4 wrong key or damaged.
import base64
import json
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def stop(why):
    print(why, file=sys.stderr)
    sys.exit(4)


def cipher_of(secret, salt, info):
    return AESGCM(HKDF(SHA256(), 32, salt, info).derive(secret))


def sizes_of(how):
    for run in (how["part_sizes"] or str(how["size_bytes"])).split(","):
        size, _, count = run.partition("x")
        yield from [int(size)] * int(count or 1)


key = open(sys.argv[1], "rb").read()
facts = json.load(open(sys.argv[2], encoding="utf-8"))
how = facts["encryption"]
info = b"coldstore sse-c key 1"
place = (facts["bucket"] + "/" + facts["key"]).encode()
if "master_key" in how:
    words = map(str.split, key.decode("ascii", "replace").splitlines())
    keys = {word[1]: word[4] for word in words if word[:1] == ["key"]}
    if how["master_key"] not in keys:
        stop("it needs key " + how["master_key"] + ", which is not there")
    key = base64.b64decode(keys[how["master_key"]])
    info = b"coldstore sse-s3 key 1"
    layout = [how["chunk_bytes"], how["size_bytes"], how["part_sizes"] or "-"]
    layout.append(how.get("part_numbers", "-"))
    place = " ".join(map(str, layout)).encode() + b" " + place
elif len(key) != 32:
    key = base64.b64decode(key)
wrapped = base64.b64decode(how["wrapped_key"])
stored, plain = sys.stdin.buffer, sys.stdout.buffer
try:
    cipher = cipher_of(key, wrapped[:32], info)
    object_key = cipher.decrypt(bytes(12), wrapped[32:], place)
except InvalidTag:
    stop("this is not the key of the object")
part = -1
try:
    for left in filter(None, sizes_of(how)):
        header, index = stored.read(48), 0
        before, part = part, int.from_bytes(header[12:16], "big")
        if header[:8] == b"CSSSE-C\x02" and part <= before:
            stop("parts are exchanged")
        info = b"coldstore sse-c piece 1" + header[:16]
        cipher = cipher_of(object_key, header[16:], info)
        while left:
            length = min(left, how["chunk_bytes"])
            left -= length
            nonce = index.to_bytes(8, "big") + bytes([0, 0, 0, left == 0])
            plain.write(cipher.decrypt(nonce, stored.read(length + 16), None))
            index += 1
except InvalidTag:
    stop("damaged, or not whole")
"""

READ_TAPE_BEGIN = "-----8<----- read-tape.sh"
READ_TAPE_END = "-----8<----- end of read-tape.sh"

READ_TAPE_SCRIPT = r"""#!/bin/sh
# read-tape.sh DEVICE FOLDER [PATTERN]
# Copies what the tape in DEVICE (a no-rewind device, /dev/nst0) holds into
# FOLDER, under its paths; with PATTERN only the paths that have it in them.
# What is in FOLDER already is left alone, what is damaged or cannot be read
# whole stays there as PATH.damaged, and all others are copied. It never writes
# to the tape. Exit status: 0 done, 2 wrong use, 4 damaged or unreadable.
set -u
LC_ALL=C
export LC_ALL

say() { printf 'read-tape.sh: %s\n' "$*" >&2; }

tape=${1-} folder=${2-} pattern=${3-}
if [ -z "$folder" ] || [ $# -gt 3 ]; then
    say 'use: sh read-tape.sh /dev/nst0 FOLDER [PATTERN]'
    exit 2
fi
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 4' HUP INT TERM

# tape_file N: the bytes of one tape file, from the N-th file mark to the next.
tape_file() {
    mt -f "$tape" asf "$1" && dd if="$tape" bs=256k 2>>"$work/dd"
}

# The last tape file is the index of all.
mt -f "$tape" setblk 0
if ! mt -f "$tape" eod || ! mt -f "$tape" bsfm 2 ||
    ! dd if="$tape" bs=256k of="$work/index.tar" 2>>"$work/dd" ||
    ! tar -xOf "$work/index.tar" >"$work/index" 2>>"$work/dd"; then
    say "the index cannot be read: $(tail -n 1 "$work/dd" 2>/dev/null)"
    exit 4
fi
if ! tail -n 1 "$work/index" | grep -q '^{"end_of_index":'; then
    say 'the last tape file is not an index: try the ones before it, by hand'
    exit 4
fi

# One line for each file: path, size, tape file, offset, SHA-256.
sed -n 's/^{"path":"\(.*\)","size_bytes":\([0-9]*\),"tape_file":\([0-9]*\),"block":[0-9]*,"offset_bytes":\([0-9]*\),"sha256":\([^,]*\),.*$/\1 \2 \3 \4 \5/p' \
    "$work/index" | sort -k 3,3n >"$work/files"
status=0
while read -r path size number offset hash; do
    case $path in *"$pattern"*) ;; *) continue ;; esac
    [ -f "$folder/$path" ] && continue
    mkdir -p "$folder/$(dirname "$path")" || exit 2
    say "$path"
    copy="$folder/$path.damaged"
    tape_file "$number" | tail -c +$((offset + 1)) | head -c "$size" >"$copy"
    copied=$(wc -c <"$copy")
    hash=$(printf '%s' "$hash" | tr -d '"')
    if [ "$copied" -ne "$size" ]; then
        say "$path: only $copied of $size bytes could be read"
        status=4
    elif [ "$hash" != null ] && [ "$(sha256sum <"$copy" | cut -d ' ' -f 1)" != "$hash" ]; then
        say "$path: its SHA-256 is not $hash"
        status=4
    else
        mv "$copy" "$folder/$path" || exit 2
    fi
done <"$work/files"
exit $status
"""

README_TEMPLATE = """\
This cartridge holds objects of an S3 archive.
==============================================

It was written by ColdStore, but ColdStore is not needed to read it. The
{medium}; the objects lie in ordinary tar files.

  Barcode             {barcode}
{uuid_name:<22}{volume_uuid}
  Pool                {pool}
  Appliance           {appliance_id}
  Admitted            {admitted_at} by {admitted_by}
  Format version      {format_version}

Other cartridges of the same appliance hold other objects, and further copies
of the objects on this one.


{reach}

2. What lies on it
------------------
  README.txt                         this text
  coldstore/volume.json              what this cartridge is
  coldstore/bundles/ID.tar           the objects, many in one tar file each
  coldstore/sessions/ID.manifest     lists of what was written in one session
  coldstore/catalog/N.manifest       (if present) buckets' settings and more

Sorted by name, bundles are in the order of time. A tar file can be listed and
extracted as any other; nothing in it is special to ColdStore:

  cd /mnt/tape/coldstore/bundles
  tar -tvf ID.tar
  tar -xf ID.tar -C /somewhere

Objects come out as  objects/BUCKET/KEY~VERSION.  Letters of all scripts stay
as they are in names; %, ~, backslashes and control characters are written as
%XX, an empty path component as %-, and very long components are cut and end
with %+ and a hash. The exact key stands in the manifest (section 3). The
version "null-NUMBER" was written while its bucket kept no versions.

A large object can be split: KEY~VERSION~1of3, ~2of3, ~3of3, each in another
bundle, perhaps on another cartridge. Join them in that order:

  cat 'KEY~VERSION~1of3' 'KEY~VERSION~2of3' 'KEY~VERSION~3of3' > object

Deleted objects stay on tape until the cartridge is reused. A cartridge does
not tell whether an object was deleted later, and overwritten versions are
here as well: the one with the greatest "sequence" is the newest.


3. Find one object
------------------
Every bundle ends with its manifest, plain text, one line of JSON per object:
bucket, key, version, size, checksums, time, class, ETag, headers and the
user's own metadata. To read it without reading the whole tar file:

  tail -c 2048 ID.tar | tr -d '\\000' | tail -n 1

shows "manifest_offset_bytes" and "manifest_length_bytes"; then

  tail -c +$((OFFSET + 1)) ID.tar | head -c LENGTH

or slower, by name:  tar -xOf ID.tar manifests/ID.jsonl

The manifests of all bundles of a session are together in one small file,
which is quicker to read than the bundles (and the drive finds it at once).
Its first line is a checksum, the
rest is compressed:

  tail -n +2 sessions/ID.manifest | gzip -dc | grep 'holiday'

The same facts also stand in front of every object in the tar file itself, in
the comment of its header:

  grep -a -o 'comment=coldstore-member .*' ID.tar


4. Get one object
-----------------
In its line, "data_offset_bytes" says where the object begins in the tar file
and "length_bytes" how long it is (offsets are multiples of 512):

  tail -c +$((DATA_OFFSET + 1)) ID.tar | head -c LENGTH > object

or with the name given in the line:  tar -xOf ID.tar 'NAME' > object

The script in section 6 does all this. Cut it out of this text and run it:

  sed -n '/^-----8</,$p' README.txt | sed '1d;/^-----8</,$d' > get-object.sh
  sh get-object.sh /mnt/tape BUCKET 'KEY' > object

The object goes to standard output, the line with its metadata to standard
error. Name several mountpoints if an object is split over cartridges. A
version can be asked for behind the key.


5. Verify
---------
{hashes}
An object's ETag is its MD5 (md5sum), unless it was uploaded in parts ("-N" at
its end). "crc64nvme" is the CRC-64/NVME of the bytes here, "object_crc64nvme"
that of the whole object.


6. get-object.sh
----------------
{begin}
{script}{end}


7. Encrypted objects
--------------------
An object whose line has "encryption" lies here encrypted; sizes and checksums
in the line are those of what lies here. There are two kinds of them.

With "master_key": the archive has encrypted it, with keys of data that are
nowhere on the tapes. The appliance's operator has exported them to a file for
the safe ("coldstore keys export"); "master_key" is the ID of the one that is
needed, the first word behind "key" in that file, and old ones are kept in it
for this. Its ETag is encrypted as well.

With "key_md5": it was encrypted with a key that its owner keeps; that is
nowhere on the tapes either. "key_md5" is the MD5 of that key (in base64), to
find it by. The ETag is that of what lies here.

With the file of the export as KEYS, or the owner's key in a file (its 32
bytes, or their base64), and the script below:

  sed -n '/^-----8<----- decrypt/,$p' README.txt |
    sed '1d;/^-----8</,$d' > decrypt-object.py
  sh get-object.sh /mnt/tape BUCKET 'KEY' > stored 2> facts
  python3 decrypt-object.py KEYS facts < stored > object

{decrypt_begin}
{decrypt_script}{decrypt_end}
"""

LTFS_WORDS = {
    "medium": "cartridge is an LTFS volume",
    "uuid_name": "  LTFS volume UUID",
    "reach": """\
1. Mount it
-----------
With a drive that reads this generation of tape and any LTFS software:

  ltfs -o devname=/dev/sg3 -o ro /mnt/tape          (your drive's sg device)
  ...
  umount /mnt/tape                        (then wait until ltfs has ended)

If ltfs says that the volume is inconsistent, run  ltfsck /dev/sg3  first.
Never touch the tape device (/dev/st0, /dev/nst0) while ltfs has it.
""",
    "hashes": """\
The SHA-256 of every bundle is an attribute of its file, and stands in the
session's manifest:

  sha256sum ID.tar
  getfattr --only-values -n user.ltfs.hash.sha256sum ID.tar
""",
}
"""What README.txt says of an LTFS volume."""

TAR_WORDS = {
    "medium": "cartridge is a plain tape",
    "uuid_name": "  Volume UUID",
    "reach": """\
1. Copy it to disk
------------------
The first tape file on it says how it is read, and has a script for that:

  mt -f /dev/nst0 rewind
  tar -b 512 -xOf /dev/nst0 README.txt

That script, read-tape.sh, copies the cartridge (or only some of it) to a
folder. In what follows this folder is called /mnt/tape.
""",
    "hashes": """\
The SHA-256 of every bundle stands in the index, which is the last tape file,
and in the session's manifest:

  sha256sum ID.tar
""",
}
"""What README.txt says of a tape without a file system."""

TAPE_README = """\
This tape holds objects of an S3 archive.
=========================================

It was written by ColdStore, but ColdStore is not needed to read it: mt, tar
and dd are enough, of any Unix with a drive that reads this tape.

  Barcode             {barcode}
  Volume UUID         {volume_uuid}
  Volume name         {volume_name}
  Formatted           {created_at}
  Format version      {format_version}

There is no file system on it, only tar files, one behind the other, each
closed by a file mark. Below, /dev/nst0 is the no-rewind device of the drive;
use that one (the other, /dev/st0, rewinds after every command).


1. What lies on it
------------------
  tape file 0          coldstore/tape.json (what this tape is), this text
  all others           bundles of objects, small files, and indexes, mixed
  the last one         the newest index: a list of everything on the tape

The first of the small files is README.txt, of which this text is no copy: it
says whose tape it is, and how to find one object in a bundle.

Blocks have 262144 bytes (256 KiB), the last block of a tape file can be
shorter. So dd wants bs=256k, and tar wants -b 512:

  mt -f /dev/nst0 setblk 0             (variable blocks; once, to be sure)
  mt -f /dev/nst0 asf 5                (to the beginning of tape file 5)
  tar -b 512 -tvf /dev/nst0            (list it)
  mt -f /dev/nst0 asf 5
  dd if=/dev/nst0 bs=256k of=5.tar     (or copy it as it is)


2. The index
------------
  mt -f /dev/nst0 eod
  mt -f /dev/nst0 bsfm 2
  tar -b 512 -xOf /dev/nst0

prints one line for each file of the tape: its path, size, in which tape file
it lies ("tape_file"), where in it ("offset_bytes"; 0 for a bundle), and its
SHA-256. Bundles are called coldstore/bundles/ID.tar.

If the last tape file is not an index (its member is not called
coldstore/index/...), the tape was not closed in order: the one before it may
be an index, or the one before that ("bsfm 3", "bsfm 4", ...). What lies
behind the last index was not finished, or no index knows it; look with tar.


3. All at once
--------------
  mt -f /dev/nst0 rewind
  tar -b 512 -xOf /dev/nst0 README.txt > TAPE.txt
  sed -n '/^-----8</,$p' TAPE.txt | sed '1d;/^-----8</,$d' > read-tape.sh
  sh read-tape.sh /dev/nst0 /somewhere

copies everything to /somewhere, and compares the SHA-256 of what it copies. A
third argument chooses: a part of a path, such as .manifest (lists of the
bundles' contents, small) or the ID of one bundle. Then go on with
/somewhere/README.txt.


4. read-tape.sh
---------------
{begin}
{script}{end}
"""

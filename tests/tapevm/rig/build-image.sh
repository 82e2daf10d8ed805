#!/bin/bash
# Build the kernel, initramfs and disk image of the virtual tape library guest.
# Uses Debian packages only, fetched with apt-get; needs no root, no mounts, no loop devices.
#
#   TAPEVM_CACHE     where images and packages are kept (default: $XDG_CACHE_HOME/coldstore/tapevm or ~/.cache/coldstore/tapevm)
#   TAPEVM_PACKAGES  extra Debian packages to put in the guest (space separated)
#   TAPEVM_FORCE=1   rebuild even if there is an image of this content
#
# Images are keyed by their content, so that several sets of packages live side by side; one that was not used for
# 30 days is removed. Run "apt-get update" once before. Prints the image folder on success, exits non-zero on failure.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TAPEVM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/coldstore/tapevm}
base_packages="bash coreutils diffutils dash grep sed mawk findutils util-linux mount procps kmod udev iproute2
  libc-bin open-iscsi tgt mtx mt-st sg3-utils lsscsi stenc
  python3 python3-twisted python3-yaml python3-zope.interface"
packages="$base_packages ${TAPEVM_PACKAGES:-}"
# Kernel modules wanted in the guest (their dependencies are added).
modules="virtio_pci virtio_blk ext4 9p 9pnet_virtio virtio_rng virtio_console
  sg st ch sd_mod sr_mod ses iscsi_tcp scsi_debug loop fuse overlay dummy af_packet"

log() { echo "build-image: $*" >&2; }
die() { log "$*"; exit 1; }

for tool in apt-get apt-cache dpkg-deb tar cpio mke2fs sha256sum; do
  PATH=$PATH:/sbin:/usr/sbin command -v "$tool" >/dev/null || die "missing tool: $tool"
done
PATH=$PATH:/sbin:/usr/sbin

kernel=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends: linux-image-[0-9]/ {print $2; exit}')
[ -n "$kernel" ] || die "linux-image-amd64 not known to apt; run apt-get update"
release=${kernel#linux-image-}

stamp=$( { echo "$kernel $packages $modules"; cat "$here"/build-image.sh "$here"/guest/*; } | sha256sum | cut -c1-16)
image=$cache/images/$stamp
mkdir -p "$cache/images"

is_built() { [ -f "$image/complete" ]; }
if [ "${TAPEVM_FORCE:-0}" != 1 ] && is_built; then
  touch "$image/complete"
  echo "$image"
  exit 0
fi

# One builder at a time; whoever waited may find the work done.
exec 9>"$cache/lock"
flock -w 600 9 || die "another build holds the lock"
if [ "${TAPEVM_FORCE:-0}" != 1 ] && is_built; then
  echo "$image"
  exit 0
fi

start=$SECONDS
work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root" "$work/apt/archives/partial" "$work/kernel" "$cache/debs"

# 1. Fetch the packages with their whole dependency closure, against an empty
#    dpkg status so that what the host has installed makes no difference.
: > "$work/status"
apt_opts=(-o "Dir::State::status=$work/status" -o "Dir::Cache=$work/apt" -o "Dir::Cache::archives=$cache/debs"
  -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o Acquire::Retries=3
  -o Dpkg::Use-Pty=0)
mkdir -p "$cache/debs/partial"
log "fetching packages"
# shellcheck disable=SC2086
timeout 600 apt-get "${apt_opts[@]}" -qq -y --download-only install $packages >"$work/apt.log" 2>&1 \
  || { tail -5 "$work/apt.log" >&2; die "apt-get failed"; }
# shellcheck disable=SC2086
timeout 120 apt-get "${apt_opts[@]}" -qq -y --print-uris install $packages 2>/dev/null | awk '{print $2}' >"$work/needed" || true
# Once downloaded, --print-uris lists nothing: resolve with -s instead.
# shellcheck disable=SC2086
timeout 120 apt-get "${apt_opts[@]}" -qq -y -s install $packages | awk '$1=="Inst" {print $2, $3}' | tr -d '(' >"$work/closure"
[ -s "$work/closure" ] || die "empty dependency closure"

# 2. Unpack (no maintainer scripts are run) into a merged-/usr tree.
root=$work/root
mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{proc,sys,dev,run,tmp,root,etc,var/lib,var/log,mnt,host}
for d in bin sbin lib lib64; do ln -s "usr/$d" "$root/$d"; done
n=0
while read -r name version; do
  file=$cache/debs/${name%%:*}_${version//:/%3a}_amd64.deb
  [ -f "$file" ] || file=$cache/debs/${name%%:*}_${version//:/%3a}_all.deb
  [ -f "$file" ] || die "no archive for $name $version"
  dpkg-deb --fsys-tarfile "$file" | tar -x --keep-directory-symlink --no-same-owner -C "$root" \
    --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale \
    --exclude=./usr/share/info --exclude=./usr/share/lintian --exclude=./usr/share/i18n
  n=$((n + 1))
done <"$work/closure"
log "$n packages unpacked ($((SECONDS - start)) s)"

# 3. Kernel and the modules we need.
( cd "$cache/debs" && ls "${kernel}"_*_amd64.deb >/dev/null 2>&1 \
  || timeout 600 apt-get -o APT::Sandbox::User=root -o Acquire::Retries=3 -qq download "$kernel" ) || die "cannot download $kernel"
kdeb=$(ls -t "$cache/debs/${kernel}"_*_amd64.deb | head -1)
dpkg-deb --fsys-tarfile "$kdeb" | tar -x -C "$work/kernel" ./boot ./lib/modules
cp "$work/kernel/boot/vmlinuz-$release" "$work/vmlinuz"
# kmod from the unpacked tree, run with that tree's own loader and libraries.
depmod=("$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu" --argv0 depmod "$root/usr/bin/kmod")
[ -L "$root/lib64/ld-linux-x86-64.so.2" ] && depmod[0]=$(readlink -f "$root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
"${depmod[@]}" -b "$work/kernel" "$release"
mdir=$work/kernel/lib/modules/$release
# shellcheck disable=SC2086
awk -v want="$(echo $modules)" '
  { key=$1; sub(/:$/, "", key); mod=key; sub(/.*\//, "", mod); sub(/\.ko.*/, "", mod); gsub(/-/, "_", mod)
    path[mod]=key; rest=""; for (i=2; i<=NF; i++) rest=rest " " $i; dep[key]=rest }
  END { n=split(want, w, " ")
    for (i=1; i<=n; i++) { m=w[i]; if (!(m in path)) continue
      k=split(dep[path[m]], d, " "); for (j=1; j<=k; j++) out[d[j]]=1; out[path[m]]=1 }
    for (p in out) print p }' "$mdir/modules.dep" >"$work/modlist"
# Checksum and NLS helpers that are loaded by name, not by dependency.
for extra in crc32c_generic crc32c-intel crc32c_intel; do
  (cd "$mdir" && find kernel -name "$extra.ko") >>"$work/modlist"
done
mkdir -p "$root/lib/modules/$release"
(cd "$mdir" && tar -c -T "$work/modlist" modules.builtin modules.order modules.builtin.modinfo) | tar -x -C "$root/lib/modules/$release"
"${depmod[@]}" -b "$root" "$release"

# 4. Guest configuration: our own files.
install -m 755 "$here/guest/init" "$root/sbin/tapevm-init"
install -m 755 "$here/guest/library" "$root/sbin/tapevm-library"
install -D -m 644 "$here/guest/vtl.py" "$root/usr/lib/tapevm/vtl.py"
mkdir -p "$root/etc/iscsi"
echo "InitiatorName=iqn.2024-01.test.tapevm:initiator" >"$root/etc/iscsi/initiatorname.iscsi"
[ -s "$root/etc/iscsi/iscsid.conf" ] || die "open-iscsi configuration missing"
printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\nkmem:x:15:\ndialout:x:20:\ncdrom:x:24:\ntape:x:26:\naudio:x:29:\nvideo:x:44:\nplugdev:x:46:\ninput:x:101:\nsgx:x:102:\nkvm:x:103:\nrender:x:104:\nnogroup:x:65534:\n' >"$root/etc/group"
printf '127.0.0.1 localhost tapevm\n' >"$root/etc/hosts"
echo tapevm >"$root/etc/hostname"
ln -sf /proc/self/mounts "$root/etc/mtab"
ln -sf mawk "$root/usr/bin/awk"
# Debian selects these two by alternatives; unpacking alone leaves no link.
[ -e "$root/usr/bin/mt" ] || ln -s mt-st "$root/usr/bin/mt"
# Byte-compile Python, as the packages' scripts would: importing Twisted without
# it takes some 25 s under emulation, with it 2 s.
loader=${depmod[0]}
py=$(ls "$root/usr/bin" | grep -xE 'python3\.[0-9]+' | head -1 || true)
if [ -n "$py" ]; then
  find "$root/usr/lib" -type d \( -name test -o -name tests -o -name lib2to3 -o -name idlelib \) -prune -exec rm -rf {} +
  PYTHONHOME=$root/usr timeout 300 "$loader" --library-path "$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu" \
    "$root/usr/bin/$py" -S -m compileall -q -j 2 -s "$root" --invalidation-mode unchecked-hash \
    "$root/usr/lib/$py" "$root/usr/lib/python3/dist-packages" >"$work/compile.log" 2>&1 || log "some Python files did not compile"
fi
rm -rf "$root/boot" "$root"/usr/share/{bash-completion,zsh,info,perl/*/unicore}

# 5. Disk image (ext4 made from the tree; no root needed) and initramfs.
size_mb=$(( $(du -sm "$root" | cut -f1) * 115 / 100 + 96 ))
mke2fs -q -t ext4 -O ^has_journal -E root_owner=0:0 -m 0 -L tapevm -d "$root" "$work/root.img" "${size_mb}M" >/dev/null

ird=$work/initrd
mkdir -p "$ird"/{bin,dev,proc,sys,newroot,lib}
# A static shell for the initramfs.
( cd "$cache/debs" && ls busybox-static_*_amd64.deb >/dev/null 2>&1 \
  || timeout 300 apt-get -o APT::Sandbox::User=root -qq download busybox-static ) || die "cannot download busybox-static"
bdeb=$(ls -t "$cache"/debs/busybox-static_*_amd64.deb | head -1)
mkdir "$work/bb"
dpkg-deb --fsys-tarfile "$bdeb" | tar -x -C "$work/bb"
cp "$work/bb/bin/busybox" "$ird/bin/busybox"
# Modules to reach the root disk, in load order.
: >"$ird/lib/order"
for m in virtio_pci virtio_blk crc32c_generic ext4; do
  awk -v m="$m" '{ key=$1; sub(/:$/, "", key); b=key; sub(/.*\//, "", b); sub(/\.ko.*/, "", b); gsub(/-/,"_",b)
    if (b==m) { for (i=NF; i>=2; i--) print $i; print key } }' "$mdir/modules.dep"
done | awk '!seen[$0]++' | while read -r p; do
  cp "$mdir/$p" "$ird/lib/"; basename "$p" >>"$ird/lib/order"
done
install -m 755 "$here/guest/initramfs-init" "$ird/init"
(cd "$ird" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0) | gzip -1 >"$work/initrd.img"

awk '{print $1, $2}' "$work/closure" >"$work/packages"
echo "$kernel" >>"$work/packages"
rm -rf "$image"
mkdir "$image"
mv "$work/vmlinuz" "$work/initrd.img" "$work/root.img" "$work/packages" "$image/"
touch "$image/complete"
find "$cache/images" -mindepth 2 -maxdepth 2 -name complete -mtime +30 -printf '%h\0' | xargs -0 -r rm -rf
log "done in $((SECONDS - start)) s: kernel $release, root image $(du -m "$image/root.img" | cut -f1) MB"
echo "$image"

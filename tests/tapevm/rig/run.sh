#!/bin/bash
# Boot the virtual tape library guest and run a command in it.
#
#   run.sh COMMAND [ARG...]      e.g.  run.sh sh -c 'mtx -f $TAPEVM_CHANGER status'
#
# The command runs as root in the guest, in the folder TAPEVM_SHARE of the host
# (read-write, seen as /host). Its output and exit status are those of run.sh;
# 125: the guest did not come up or was cut off; 124: the command ran past its limit.
#
#   TAPEVM_CACHE            images and packages (see build-image.sh, which is run when needed)
#   TAPEVM_SHARE            folder shared with the guest        (default: current folder)
#   TAPEVM_CWD              working folder inside the share     (default: .)
#   TAPEVM_COMMAND_TIMEOUT  seconds for the command             (default: 300)
#   TAPEVM_TIMEOUT          seconds for everything              (default: command timeout + 120)
#   TAPEVM_ACCEL            tcg (default) or kvm
#   TAPEVM_CPUS, TAPEVM_MEM guest size                          (default: 2, 1024 MB)
#   TAPEVM_DRIVES, TAPEVM_SLOTS, TAPEVM_IE, TAPEVM_TAPES, TAPEVM_TAPE_MB, TAPEVM_CLEANING,
#   TAPEVM_SWAP_DRIVES, TAPEVM_BACKEND, TAPEVM_VTL_OPTIONS, TAPEVM_UDEV   the library               (see README.md)
#   TAPEVM_BIND             "FOLDER:PATH ...": folders of the share to be seen at an absolute path of the guest
#   TAPEVM_PASS             names of further variables to hand to the command
#   TAPEVM_KEEP=DIR         copy the control folder (guest log, timings, console) there
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || { sed -n '2,25p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2; exit 125; }
command -v qemu-system-x86_64 >/dev/null || { echo "run.sh: qemu-system-x86_64 not installed" >&2; exit 125; }

image=$("$here/build-image.sh") || exit 125
share=$(cd "${TAPEVM_SHARE:-.}" && pwd)
limit=${TAPEVM_COMMAND_TIMEOUT:-300}
total=${TAPEVM_TIMEOUT:-$((limit + 120))}
accel=${TAPEVM_ACCEL:-tcg}
cpu=max; [ "$accel" = kvm ] && cpu=host
[ "$accel" = tcg ] && accel=tcg,thread=multi

ctl=$(mktemp -d -t tapevm.XXXXXX)
qemu=
cleanup() {
  if [ -n "$qemu" ] && kill -0 "$qemu" 2>/dev/null; then kill "$qemu" 2>/dev/null || true; wait "$qemu" 2>/dev/null || true; fi
  if [ -n "${TAPEVM_KEEP:-}" ]; then mkdir -p "$TAPEVM_KEEP" && cp -r "$ctl/." "$TAPEVM_KEEP/"; fi
  rm -rf "$ctl"
}
trap cleanup EXIT
trap 'exit 125' INT TERM

: >"$ctl/stdout"; : >"$ctl/stderr"; : >"$ctl/guest.log"
printf '%q ' "$@" >"$ctl/command"
echo >>"$ctl/command"
{
  for v in DRIVES SLOTS IE TAPES TAPE_MB CLEANING SWAP_DRIVES BACKEND VTL_OPTIONS UDEV CWD COMMAND_TIMEOUT BIND; do
    n=TAPEVM_$v; [ -z "${!n:-}" ] || printf '%s=%q\n' "$n" "${!n}"
  done
  for n in ${TAPEVM_PASS:-}; do [ -z "${!n+x}" ] || printf '%s=%q\n' "$n" "${!n}"; done
} >"$ctl/env"

timeout -k 10 "$total" qemu-system-x86_64 \
  -accel "$accel" -cpu "$cpu" -smp "${TAPEVM_CPUS:-2}" -m "${TAPEVM_MEM:-1024}" \
  -nodefaults -no-user-config -no-reboot -display none -monitor none -serial "file:$ctl/console" \
  -kernel "$image/vmlinuz" -initrd "$image/initrd.img" \
  -append "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off" \
  -drive "file=$image/root.img,format=raw,if=none,id=root,snapshot=on" -device virtio-blk-pci,drive=root \
  -device virtio-rng-pci \
  -fsdev "local,id=ctl,path=$ctl,security_model=none" -device virtio-9p-pci,fsdev=ctl,mount_tag=tapevm_ctl \
  -fsdev "local,id=work,path=$share,security_model=none" -device virtio-9p-pci,fsdev=work,mount_tag=tapevm_work \
  </dev/null >"$ctl/qemu.log" 2>&1 &
qemu=$!
tail -n +1 -q -s 0.2 -f --pid="$qemu" "$ctl/stdout" 2>/dev/null &
out=$!
tail -n +1 -q -s 0.2 -f --pid="$qemu" "$ctl/stderr" >&2 2>/dev/null &
err=$!
wait "$qemu" || true
qemu=
wait "$out" "$err" 2>/dev/null || true

if [ ! -s "$ctl/rc" ]; then
  echo "run.sh: the guest ended without a result; last lines:" >&2
  tail -n 5 "$ctl/qemu.log" "$ctl/console" "$ctl/guest.log" >&2 2>/dev/null || true
  exit 125
fi
rc=$(cat "$ctl/rc")
[ "$rc" = 125 ] && tail -n 20 "$ctl/guest.log" >&2
exit "$rc"

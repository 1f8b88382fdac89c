/** Numbers of the virtio ports: the `p<n>` in the guest's `/dev/vport<bus>p<n>`. */
export const PORTS = { stdout: 1, stderr: 2, control: 3, stdin: 4, events: 5, log: 6 } as const;

/** Shell words for the ports' paths; a redirection by itself does not expand patterns. */
const PORT = {
  stdout: `"$(echo /dev/vport*p${PORTS.stdout})"`,
  stderr: `"$(echo /dev/vport*p${PORTS.stderr})"`,
  control: `"$(echo /dev/vport*p${PORTS.control})"`,
  stdin: `"$(echo /dev/vport*p${PORTS.stdin})"`,
  events: `"$(echo /dev/vport*p${PORTS.events})"`,
  log: `"$(echo /dev/vport*p${PORTS.log})"`,
} as const;

/** Modules without which the guest cannot start, unless they are built into the kernel. */
export const BOOT_MODULES: readonly string[] = [
  'virtio_pci',
  'virtio_console',
  '9pnet_virtio',
  '9p',
  'overlay',
];

/** Busybox commands the two scripts use. */
export const APPLETS: readonly string[] =
  'cat chmod cp hostname insmod ip ln mkdir mkfifo mount mv poweroff rm setsid sh sleep stty switch_root tty'.split(
    ' ',
  );

/** Folder of busybox and the scripts once the root is the host's: in the guest's own /run. */
const TOOLS = '/run/dmabuf-vm';

/**
 * The first process: loads the modules, builds the root (the host's, read-only, under a writable overlay in
 * memory) and hands over to {@link commandScript}. It talks to the host over the control port, in lines.
 */
export const INIT_SCRIPT: string = `#!/bin/busybox sh
PATH=/bin
# fail <what, as in ERR_DMABUF_VM_*> <message>
fail() {
  echo "dmabuf vm: $*"
  if [ -n "$reporting" ]; then
    echo "fail $*" >&3
    read -r line <&3 # until the host has read it and ends the guest
  fi
  poweroff -f
}
# What the kernel lacks, as options of its configuration.
lacks=
lacking() { lacks="$lacks\${lacks:+, }$1"; }
mount -t proc proc /proc || lacking CONFIG_PROC_FS
mount -t sysfs sysfs /sys || lacking CONFIG_SYSFS
mount -t devtmpfs devtmpfs /dev || lacking CONFIG_DEVTMPFS

# An error is kept until there is a port to report it on.
while read -r module; do
  message=$(insmod "/modules/$module.ko" 2>&1) || problem="\${problem:-module $module did not load: $message}"
done </modules/list

# Of what only these two file systems show, nothing is known without them.
driver() { [ ! -d /sys/bus ] || [ -d /sys/bus/$1/drivers/$2 ] || lacking $3; }
filesystem() {
  [ -e /proc/filesystems ] || return
  while read -r flag name; do [ "\${name:-$flag}" != $1 ] || return; done </proc/filesystems
  lacking $2
}
[ ! -d /sys/bus ] || [ -d /sys/bus/pci ] || lacking CONFIG_PCI
driver pci virtio-pci CONFIG_VIRTIO_PCI
driver virtio virtio_console CONFIG_VIRTIO_CONSOLE
driver virtio 9pnet_virtio CONFIG_NET_9P_VIRTIO
filesystem 9p CONFIG_9P_FS
filesystem tmpfs CONFIG_TMPFS
filesystem overlay CONFIG_OVERLAY_FS

# The ports appear a moment after the driver has started, one after the other.
tries=0
while [ ! -c ${PORT.control} ] || [ ! -c ${PORT.log} ]; do
  tries=$((tries + 1))
  case "$lacks" in *DEVTMPFS* | *PCI* | *VIRTIO_CONSOLE*) tries=1000 ;; esac
  [ $tries -lt 1000 ] || break
  sleep 0.01
done
[ -c ${PORT.control} ] || fail KERNEL "the kernel shows no virtio ports\${lacks:+; it lacks $lacks} $problem"
exec 3<>${PORT.control}
reporting=yes
echo up >&3
if [ -c /dev/kmsg ]; then
  # From the start of the boot on, and never killed when memory is used up.
  cat /dev/kmsg >${PORT.log} 3>&- &
  export log=$!
  echo -1000 >/proc/$log/oom_score_adj
  echo log >&3
fi
[ -z "$problem" ] || fail MODULE "$problem"
[ -z "$lacks" ] || fail KERNEL "the kernel lacks what a guest needs: $lacks, neither built in nor as a module that was found"

mkdir -p /host /rw /new
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /host ||
  fail KERNEL "mounting the host's files over 9p failed (CONFIG_9P_FS, CONFIG_NET_9P_VIRTIO)"
lower=/host
if [ -d /programs ]; then
  # The guest's processor cannot run the host's programs: its own lie over them.
  mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 programs /programs ||
    fail KERNEL "mounting the guest's programs over 9p failed (CONFIG_9P_FS, CONFIG_NET_9P_VIRTIO)"
  lower=/programs:/host
fi
mount -t tmpfs -o mode=755 rw /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=$lower,upperdir=/rw/upper,workdir=/rw/work overlay /new ||
  fail KERNEL "mounting the overlay failed (CONFIG_OVERLAY_FS)"

for folder in dev proc sys run; do [ -d /new/$folder ] || mkdir /new/$folder; done
mount --move /dev /new/dev
mount --move /proc /new/proc
mount --move /sys /new/sys
mount -t tmpfs -o mode=755 run /new/run
mkdir /new${TOOLS} /new/run/lock
chmod 1777 /new/run/lock
cp -a /bin /*.sh /new${TOOLS}
exec switch_root /new ${TOOLS}/bin/sh ${TOOLS}/command.sh
`;

/** The program by which the command has a picture taken. */
export const SCREENDUMP_PROGRAM: string = `${TOOLS}/screendump`;

/** What the command reads: nothing, what the host passes on, or what is typed. */
export type GuestInput = 'nothing' | 'pipe' | 'terminal';

/** What the command runs with. */
export interface GuestCommand {
  input: GuestInput;
  /** util-linux's script(1), which makes pseudo-terminals; needed for `'terminal'`. */
  scriptProgram: string;
  command: readonly string[];
  cwd: string;
  env: Readonly<Record<string, string>>;
  /** A Node.js of the guest's processor, and the path of one that it stands in for. */
  node: { program: string; path: string } | undefined;
  /** Whether the command has a third output, its descriptor 3, for what is neither of the other two. */
  hasEvents: boolean;
  /** Written to each output last, so that the host knows that it has all of it. */
  endMark: string;
  /** The folder whose files are written on the host. */
  output: { path: string } | undefined;
  network: boolean;
  /** Where pictures of the display go, if anywhere. */
  screendump: string | undefined;
}

/**
 * A pipe without a name: to open /dev/stdin would block if it were a named pipe whose writer has finished. The process in
 * it is never waited for.
 */
const PASS_INPUT_ON = `{ cat ${PORT.stdin} & } | `;

/** The script that runs as process 1 in the final root: starts the command, passes on its output and status. */
export function commandScript(job: GuestCommand): string {
  const { cwd, env, endMark, input, hasEvents, network, node, output, screendump } = job;
  const outputs = hasEvents ? (['stdout', 'stderr', 'events'] as const) : (['stdout', 'stderr'] as const);
  const runtimeFolder = env.XDG_RUNTIME_DIR?.startsWith('/run/') ? env.XDG_RUNTIME_DIR : undefined;
  return `PATH=${TOOLS}/bin
tools=${TOOLS}
# The host ends the guest when it has read this.
fail() { echo "fail $*" >&3; wait $watcher; }

# Nobody but the host's own death ends the control port: power off then, so that no guest is left behind.
# It also reports the sizes of the host's terminal, and that a requested picture was taken.
(
  while read -r word size rest; do
    case $word in
      size)
        size="$size $rest"
        echo "$size" >$tools/size.new
        mv $tools/size.new $tools/size
        [ ! -e $tools/terminal ] || stty -F "$(cat $tools/terminal)" $size
        ;;
      picture) echo "$rest" >$tools/picture.$size & ;;
    esac
  done <&3
  poweroff -f
) &
watcher=$!

mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
  target=\${link#*:}
  ln -sf /proc/self/$target /dev/\${link%:*}
done
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
${node === undefined ? '' : `mount -o bind ${quote(node.program)} ${quote(node.path)}\n`}# A guest whose memory is used up must kill the culprit, not read its programs over 9p again and again.
echo 1000 2>/dev/null >/sys/kernel/mm/lru_gen/min_ttl_ms
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
hostname dmabuf-vm
ip link set lo up
ulimit -Hn 1048576

# Programs open /dev/stdout again, which a virtio port refuses and a pipe allows: pipes, each with a process
# that passes on what comes through it. When memory runs out, these must not be the ones to go.
echo -1000 >/proc/self/oom_score_adj
relays=
${outputs.map((name) => `mkfifo -m 600 $tools/${name}\ncat $tools/${name} >${PORT[name]} &\nrelays="$relays $!"`).join('\n')}

# the folder of the user's session is expected to exist, and /run is empty here
${runtimeFolder === undefined ? '' : `mkdir -p -m 700 ${quote(runtimeFolder)}`}

${output === undefined ? '' : mountOutput(output.path)}${network ? NETWORK : ''}${screendump === undefined ? '' : PICTURES}
cd ${quote(cwd)} 2>/dev/null || fail OPTION ${quote(`the folder ${cwd} does not exist in the guest`)}
echo run >&3
${input === 'nothing' ? '' : PASS_INPUT_ON}(
  exec ${input === 'nothing' ? '</dev/null ' : ''}>$tools/stdout 2>$tools/stderr 3>${hasEvents ? '$tools/events' : '&-'}
  echo 0 >/proc/self/oom_score_adj
  exec setsid ${input === 'terminal' ? onTerminal(job) : inEnvironment(job)}
)
status=$?
${screendump === undefined ? '' : LAST_PICTURE}
# The pipes end when the last process that holds them ends, so end what the command left running.
ended=yes
while [ -n "$ended" ]; do
  ended=
  for process in /proc/[0-9]*; do
    process=\${process#/proc/}
    case " 1 $watcher $relays $log " in *" $process "*) continue ;; esac
    # kernel threads and processes that have ended already have no program file
    if [ -e /proc/$process/exe ]; then kill -9 $process && ended=yes; fi
  done 2>/dev/null
done
wait $relays
# The log is read to this line. Who reads it may have been too slow for it, which ends it: it is read once more then.
if [ -n "$log" ]; then
  [ -e /proc/$log/exe ] || cat /dev/kmsg >${PORT.log} &
  echo ${quote(`<6>${logMark(endMark)}`)} >/dev/kmsg
fi
${outputs.map((name) => `echo -n ${quote(endMark)} >${PORT[name]}`).join('\n')}
# The host ends the guest when it has read all of this.
echo "exit $status" >&3
wait $watcher
`;
}

/** The host's own env: busybox's would run busybox's own sh, ls and so on in place of the host's. */
function inEnvironment({ env, command }: GuestCommand): string {
  const words = [...Object.entries(env).map(([name, value]) => `${name}=${value}`), ...command];
  return `/usr/bin/env -i ${words.map(quote).join(' ')}`;
}

/** A pseudo-terminal, on which {@link terminalScript} runs. */
function onTerminal({ scriptProgram }: GuestCommand): string {
  return `${quote(scriptProgram)} -qefc 'exec ${TOOLS}/bin/sh ${TOOLS}/terminal.sh' /dev/null`;
}

/** The script that runs on the guest's pseudo-terminal: gives it the modes and the size of the host's, then to the command. */
export function terminalScript(job: GuestCommand): string {
  return `PATH=${TOOLS}/bin
tools=${TOOLS}
# script(1) makes one without echo where its own input is no terminal.
stty sane
stty iutf8 2>/dev/null
# A size that comes after the first line is set by who reads it, and one that came before it is there for the second.
tty >$tools/terminal.new && mv $tools/terminal.new $tools/terminal
[ ! -e $tools/size ] || stty $(cat $tools/size)
exec ${inEnvironment(job)}
`;
}

/** Nothing is cached: what was written is there, even when the kernel panics or the time limit comes. */
function mountOutput(path: string): string {
  const message = `the output folder ${path} could not be made in the guest`;
  return `mkdir -p ${quote(path)} || fail OPTION ${quote(message)}
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=512000 output ${quote(path)} ||
  fail KERNEL "mounting the output folder over 9p failed (CONFIG_9P_FS, CONFIG_NET_9P_VIRTIO)"
chmod 755 ${quote(path)}
`;
}

/** What QEMU's user networking expects of its guest. */
const NETWORK = `card=
for folder in /sys/class/net/*; do [ ! -e $folder/device ] || card=\${folder##*/}; done
[ -n "$card" ] || fail MODULE "the kernel shows no network card, which network (--network) needs (CONFIG_VIRTIO_NET)"
ip link set $card up
ip addr add 10.0.2.15/24 dev $card && ip route add default via 10.0.2.2 ||
  fail MODULE "the network (--network) could not be set up (CONFIG_INET)"
# It may be a link into /run, which is empty here.
rm -f /etc/resolv.conf
echo nameserver 10.0.2.3 >/etc/resolv.conf
`;

/** A program that asks for a picture, and waits until it is taken. */
const PICTURES = `cat >$tools/screendump <<'END'
#!${TOOLS}/bin/sh
PATH=${TOOLS}/bin
cd ${TOOLS} && mkfifo -m 600 picture.$$ || exit
echo $$ >pictures
read -r answer <picture.$$
rm picture.$$
[ "$answer" = taken ] || { echo "screendump: $answer" >&2; exit 1; }
END
chmod 755 $tools/screendump
mkfifo -m 600 $tools/pictures
( exec 4<>$tools/pictures; while read -r name <&4; do echo "picture $name" >&3; done ) &
`;

const LAST_PICTURE = `mkfifo $tools/picture.end
echo "picture end" >&3
read -r answer <$tools/picture.end
`;

/** The last line of the kernel's log: the end mark without what the kernel would escape. */
export function logMark(endMark: string): string {
  return endMark.replace(/[^\w -]/g, '');
}

/** Quotes a word for the shell. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

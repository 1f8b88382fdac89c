import { textOf } from './text-file.js';

/** By their numbers in linux/capability.h. */
const capabilities = { DAC_OVERRIDE: 1, SYS_PTRACE: 19, PERFMON: 38, BPF: 39 } as const;

type Capability = keyof typeof capabilities;

/** Whether this process has a capability. */
export function hasCapability(name: Capability): boolean {
  const bits = /^CapEff:\t([0-9a-f]+)$/m.exec(textOf('/proc/self/status') ?? '')?.[1] ?? '0';
  return ((BigInt(`0x${bits}`) >> BigInt(capabilities[name])) & 1n) === 1n;
}

/** Whether this process is root, but not root of the machine. */
export function isRootOfNamespace(): boolean {
  return (
    process.geteuid?.() === 0 &&
    !/^\s*0\s+0\s+4294967295\s*$/.test(textOf('/proc/self/uid_map') ?? '0 0 4294967295')
  );
}

/**
 * Why root was refused what these capabilities allow, and what to do; undefined for other users, who can try again as
 * root.
 */
export function whyRootMayNot(...needed: readonly Capability[]): string | undefined {
  if (process.geteuid?.() !== 0) return undefined;
  if (isRootOfNamespace()) {
    return 'This process is root only in its user namespace: run it outside the namespace, as root of the machine';
  }
  const lacking = needed.filter((name) => !hasCapability(name));
  if (lacking.length > 0) {
    const names = lacking.map((name) => `CAP_${name}`).join(' and ');
    const add = lacking.map((name) => `--cap-add ${name}`).join(' ');
    return `This process is root without ${names}: start its container with ${add}, or run it outside the container, on the host`;
  }
  return (
    'This process has the rights of root: a security module (SELinux, AppArmor), a locked-down kernel or a sandbox refuses ' +
    'it. Run it outside of its container, on the host'
  );
}

/** What to do when a process may not be inspected; without `pid`, when some processes may not. */
export function adviceOnProcesses(pid?: string): string {
  const why = whyRootMayNot('SYS_PTRACE');
  if (why !== undefined) return why;
  if (pid === undefined) return 'Run as root (CAP_SYS_PTRACE) to see what other users hold';
  const owner = /^Uid:\t\d+\t(\d+)/m.exec(textOf(`/proc/${pid}/status`) ?? '')?.[1];
  return owner !== undefined && Number(owner) === process.geteuid?.()
    ? 'It belongs to this user, but the kernel reserves it for root: a program with rights or secrets of its own'
    : 'Only the same user or root may read this process';
}

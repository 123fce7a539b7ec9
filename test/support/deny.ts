import { nativeTool } from './native-tools.ts';

/**
 * A `prefix` under which system calls fail: `await denying('memfd_secret=ENOSYS', 'mlock=EPERM')`. See native/deny-syscalls.c.
 */
export async function denying(...rules: readonly string[]): Promise<readonly string[]> {
  return [await nativeTool('deny-syscalls', ['-std=c11', '-D_GNU_SOURCE']), ...rules, '--'];
}

/** Like a kernel before 5.14. */
export const noMemfdSecret = 'memfd_secret=ENOSYS';

/** Like a container that allows no locking at all. */
export const noLocking = [noMemfdSecret, 'mlock=EPERM', 'mlock2=EPERM'] as const;

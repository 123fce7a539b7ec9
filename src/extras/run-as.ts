import type { Account, Native } from '../native/native.ts';
import { reason, unsafeFailure, usageFailure } from '../run/failure.ts';
import { quote } from '../run/log.ts';

/**
 * Checks that the account of `--run-as` is one to give up root for.
 *
 * @throws {Failure} when it is root's, or we are not root
 */
export function checkRunAs({ name: rawName, uid, gid }: Account): void {
  const name = quote(rawName);
  if (uid === 0) throw usageFailure(`--run-as ${name} is still root`, 'name a user who owns nothing, for example nobody');
  if (gid === 0) throw usageFailure(`--run-as ${name} is still in the group of root`, 'name a user of another group, for example nobody');
  if (process.geteuid?.() !== 0) throw usageFailure('--run-as needs root, to give it up', `start the daemon as root, or as ${name} without --run-as`);
}

/** Node has this; its types lack it. */
interface InitGroups {
  initgroups(user: string, extraGroup: number): void;
}

/**
 * Gives up root for good: groups, gid, uid, in this order; then checks that root cannot be regained.
 * Changing the uid makes the process dumpable again, so tracing is forbidden once more.
 *
 * @throws {Failure} with exit code 3
 */
export function giveUpRoot({ name, uid, gid }: Account, native: Native): void {
  try {
    (process as unknown as InitGroups).initgroups(name, gid);
    process.setgid?.(gid);
    process.setuid?.(uid);
    native.harden();
  } catch (error) {
    throw unsafeFailure(`cannot become ${quote(name)}: ${reason(error)}`, 'choose another user for --run-as');
  }
  if (canRegainRoot()) throw unsafeFailure('root could be regained after --run-as', 'run it in a container or unit that grants no capabilities');
}

function canRegainRoot(): boolean {
  if (process.getuid?.() === 0 || process.geteuid?.() === 0 || process.getgid?.() === 0 || process.getegid?.() === 0) return true;
  if (process.getgroups?.().includes(0)) return true;
  try {
    process.setuid?.(0);
    return true;
  } catch {
    return false; // as it should be
  }
}

import { existsSync, readFileSync } from 'node:fs';
import { type Account, type Native, missingAddonHint } from '../native/native.ts';
import { exitCodes } from '../run/exit-codes.ts';
import { Failure } from '../run/failure.ts';
import { foreign } from '../run/log.ts';
import { checkRunAs, giveUpRoot } from './run-as.ts';

/** Longest name of a user, in characters (useradd(8)). A longer value may be a key passed to the wrong flag, so we do not echo it. */
const maxUserNameLength = 32;

/** 2^32 - 1 is no uid: chown(2) and setuid(2) take it for "leave it as it is". */
const noUid = 0xffff_ffff;

/** The flags that name users, by name or uid, as they were given. */
export interface UserFlags {
  readonly serverInfo: string | undefined;
  readonly serverInfoOwner: string | undefined;
  readonly runAs: string | undefined;
  readonly allowUsers: readonly string[];
}

/** Who the flags name, as far as the system knows them. */
export interface Users {
  readonly runAs: Account | undefined;
  /** Becomes that user, for good; undefined where the daemon's user stays. */
  readonly giveUpRoot: (() => void) | undefined;
  readonly serverInfoOwner: Account | undefined;
  readonly allowedUids: readonly number[];
}

/** The capability to give files away: its bit, see capabilities(7). */
const capChown = 0n;

/**
 * Looks up the users that the flags name.
 *
 * @throws {Failure} for one who does not exist, or cannot be what the flag says
 */
export function findUsers({ serverInfo, serverInfoOwner, runAs, allowUsers }: UserFlags, native: Native | undefined): Users {
  const newUser = runAs === undefined ? undefined : findAccount('--run-as', runAs, native);
  if (newUser !== undefined) checkRunAs(newUser);
  const drop = newUser === undefined ? undefined : () => giveUpRoot(newUser, required('--run-as', native));
  const owner = serverInfoOwner === undefined ? undefined : findAccount('--server-info-owner', serverInfoOwner, native);
  // A file that exists is written in place and keeps its owner.
  if (owner !== undefined && serverInfo !== undefined && !existsSync(serverInfo)) checkMayGiveTo(owner);
  return { runAs: newUser, giveUpRoot: drop, serverInfoOwner: owner, allowedUids: allowUsers.map((user) => findUid('--allow-user', user, native)) };
}

/**
 * Finds the account that a flag names.
 *
 * @param flag with its dashes, for the message
 * @throws {Failure} when there is no such account, or no addon to ask with
 */
function findAccount(flag: string, nameOrUid: string, native: Native | undefined): Account {
  const account = required(flag, native).account(nameOrUid);
  if (account !== undefined) return account;
  const name = nameOrUid.length > maxUserNameLength ? 'of that name' : foreign(nameOrUid);
  throw new Failure(`${flag}: there is no user ${name}`, { hint: 'getent passwd lists the users', exitCode: exitCodes.usage });
}

function required(flag: string, native: Native | undefined): Native {
  if (native !== undefined) return native;
  throw new Failure(`${flag} needs the native part, which is missing or does not load`, { hint: missingAddonHint });
}

/** The uid that a flag names. It need not have an account, as in many containers. */
function findUid(flag: string, nameOrUid: string, native: Native | undefined): number {
  const account = native?.account(nameOrUid);
  if (account === undefined && /^\d{1,10}$/.test(nameOrUid) && Number(nameOrUid) < noUid) return Number(nameOrUid);
  return account?.uid ?? findAccount(flag, nameOrUid, native).uid;
}

/**
 * Checks that a new `--server-info` file can be given to its owner. That needs root, unless the owner is ourselves.
 *
 * @throws {Failure} when we may not
 */
function checkMayGiveTo({ uid, name }: Account): void {
  if (uid === process.geteuid?.() || mayChown()) return;
  throw new Failure(`--server-info-owner ${foreign(name)} needs root: only root can give a file to another user`, {
    hint: `start the daemon as root (with CAP_CHOWN), or create the file as ${foreign(name)} first`,
  });
}

function mayChown(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return ((BigInt(`0x${effective}`) >> capChown) & 1n) === 1n;
}

import type { Account, Native } from '../native/native.ts';
import { usageFailure } from '../run/failure.ts';
import { quote } from '../run/log.ts';
import { checkRunAs, giveUpRoot } from './run-as.ts';

/** Longest name of a user, in characters (useradd(8)). A longer value may be a key passed to the wrong flag, so we do not echo it. */
const maxUserNameLength = 32;

/** 2^32 - 1 is no uid: chown(2) and setuid(2) take it for "leave it as it is". */
const noUid = 0xffff_ffff;

/** The flags that name users, by name or uid, as they were given; and what they are for. */
export interface UserFlags {
  readonly runAs: string | undefined;
  readonly allowUsers: readonly string[];
  readonly issuesToken: boolean;
}

/** Who the flags name, as far as the system knows them. */
export interface Users {
  readonly runAs: Account | undefined;
  /** Becomes that user, for good; undefined where the daemon's user stays. */
  readonly giveUpRoot: (() => void) | undefined;
  /** Whom a file with an issued token is given to; undefined for the daemon's own user. */
  readonly tokenOwner: Account | undefined;
  readonly allowedUids: readonly number[];
}

/**
 * Looks up the users that the flags name.
 *
 * @throws {Failure} for one who does not exist, or cannot be what the flag says
 */
export function findUsers({ runAs, allowUsers, issuesToken }: UserFlags, native: Native): Users {
  const newUser = runAs === undefined ? undefined : findAccount('--run-as', runAs, native);
  if (newUser !== undefined) checkRunAs(newUser);
  const drop = newUser === undefined ? undefined : () => giveUpRoot(newUser, native);
  const allowed = allowUsers.map((user) => findAllowed(user, native));
  const givesToken = issuesToken && process.geteuid?.() === 0;
  return { runAs: newUser, giveUpRoot: drop, tokenOwner: givesToken ? onlyOne(allowed) : undefined, allowedUids: allowed.map(({ uid }) => uid) };
}

/** The user whom a token is for: root gives its file away, because nobody else may read it. */
function onlyOne([first, ...others]: readonly Account[]): Account | undefined {
  if (others.every(({ uid }) => uid === first?.uid)) return first;
  throw usageFailure('--issue-token cannot reach several --allow-user: the file that it goes into has one owner', 'give them a token by --client-token-file, or each a daemon of its own');
}

/**
 * Finds the account that a flag names.
 *
 * @param flag with its dashes, for the message
 * @throws {Failure} when there is no such account
 */
function findAccount(flag: string, nameOrUid: string, native: Native): Account {
  const account = native.account(nameOrUid);
  if (account !== undefined) return account;
  const name = nameOrUid.length > maxUserNameLength ? 'of that name' : quote(nameOrUid);
  throw usageFailure(`${flag}: there is no user ${name}`, 'getent passwd lists the users');
}

/** The user of an `--allow-user`. A uid need not have an account, as in many containers. */
function findAllowed(nameOrUid: string, native: Native): Account {
  const account = native.account(nameOrUid);
  const isUid = /^\d{1,10}$/.test(nameOrUid) && Number(nameOrUid) < noUid;
  if (account === undefined && isUid) return { name: `uid ${nameOrUid}`, uid: Number(nameOrUid), gid: process.getegid?.() ?? 0 };
  return account ?? findAccount('--allow-user', nameOrUid, native);
}

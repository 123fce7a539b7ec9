import { type Account, type Native, missingAddonHint } from '../native/native.ts';
import { exitCodes } from './exit-codes.ts';
import { Failure } from './failure.ts';
import { foreign } from './log.ts';

/**
 * Finds the account that a flag names.
 *
 * @param flag for the message, with its dashes
 * @throws {Failure} when there is no such account, or no addon to ask with
 */
export function findAccount(flag: string, nameOrUid: string, native: Native | undefined): Account {
  if (native === undefined) {
    throw new Failure(`${flag} needs the native part, which is missing or does not load`, { hint: missingAddonHint });
  }
  const account = native.account(nameOrUid);
  if (account !== undefined) return account;
  throw new Failure(`${flag}: there is no user ${foreign(nameOrUid)}`, { hint: 'getent passwd lists the users', exitCode: exitCodes.usage });
}

/** 2^32 - 1 is no uid: chown(2) and setuid(2) take it for "leave it as it is". */
const noUid = 0xffff_ffff;

/** The same where the uid is enough: it need not have an account, as in many containers. */
export function findUid(flag: string, nameOrUid: string, native: Native | undefined): number {
  const account = native?.account(nameOrUid);
  if (account === undefined && /^\d{1,10}$/.test(nameOrUid) && Number(nameOrUid) < noUid) return Number(nameOrUid);
  return account?.uid ?? findAccount(flag, nameOrUid, native).uid;
}

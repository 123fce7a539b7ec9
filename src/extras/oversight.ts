import type { Account, Native } from '../native/native.ts';
import type { Field } from '../proxy/headers.ts';
import type { Observer, RequestHead, RequestObserver, RunControl } from '../proxy/observer.ts';
import { heldPath } from '../run/written-file.ts';
import { Ledger } from './audit/audit-ledger.ts';
import { AuditEntries } from './audit/audit-entry.ts';
import { AuditLog } from './audit/audit-log.ts';
import { Expiry } from './expiry.ts';
import { Limits } from './policy/limits.ts';
import { readPolicy } from './policy/policy.ts';
import { RequestOversight, type SharedRules } from './request-oversight.ts';
import { parseTimestamp } from './timestamp.ts';
import { MemoryBudget } from './whole-body.ts';

/** What the flags say, and what is served. */
export interface OversightOptions {
  /** The file where each request is recorded; undefined for nowhere. */
  readonly auditLog: string | undefined;
  /** The file of `--policy`. */
  readonly policyFile: string | undefined;
  /** When the loan ends, as given; undefined for never. */
  readonly expireAt: string | undefined;
  /** The target that is served, and the one that it goes to. */
  readonly endpoint: string;
  readonly upstream: { readonly target: string };
}

/** What it needs of the daemon. */
export interface Surroundings {
  /** Whom a new audit log is given to; undefined for the daemon's own user. */
  readonly owner: Account | undefined;
  readonly native: Native;
  /** Tells the daemon's user. */
  readonly report: (message: string) => void;
}

/** Memory that the bodies which are held whole may have together, in bytes; more only if a single one may be larger. */
const heldBytes = 64 * 1024 * 1024;

/**
 * What the key is used for, how much of that is granted, and until when: `--audit-log`, `--policy`, `--expire-at`. They
 * share what has to be known of each request.
 */
export class Oversight implements Observer {
  readonly #entries: AuditEntries;
  readonly #rules: SharedRules;

  /**
   * Opens the audit log, and reads the ledger back from it. Nothing is written yet.
   *
   * @throws {Failure} when the loan is over or its end no time, the policy cannot be read or is none, or the log cannot be opened
   */
  constructor({ auditLog: file, policyFile, expireAt, endpoint, upstream }: OversightOptions, { owner, native, report }: Surroundings) {
    const expiry = expireAt === undefined ? undefined : new Expiry(parseTimestamp(expireAt));
    const policy = policyFile === undefined ? undefined : readPolicy(policyFile, endpoint, upstream.target);
    if (policy?.mode === 'shadow' && file === undefined) report('without --audit-log, shadow mode records nowhere what the policy would refuse');
    const log = file === undefined ? undefined : new AuditLog({ file, path: heldPath('--audit-log', file), endpoint, owner, lock: (descriptor) => native.lockFile(descriptor) === 1, report });
    const ledger = log?.ledger ?? new Ledger();
    const limits = policy?.limits === undefined ? undefined : new Limits(policy.limits, ledger);
    this.#entries = new AuditEntries((record) => (log === undefined ? ledger.end(record) : log.append(record)));
    this.#rules = {
      policy,
      limits,
      expiry,
      log,
      ledger,
      readsAnswer: log !== undefined || (policy?.limits?.tokensPerDay ?? policy?.limits?.tokensTotal) !== undefined,
      held: new MemoryBudget(Math.max(heldBytes, policy?.maxBodyBytes ?? 0)),
    };
  }

  get notices(): readonly string[] {
    const { policy, ledger } = this.#rules;
    if (policy === undefined) return [];
    const tokensTotal = policy.limits?.tokensTotal;
    return [
      policy.mode === 'enforce' ? 'policy enforced' : 'policy in shadow mode: nothing is enforced',
      ...(tokensTotal === undefined ? [] : [`${ledger.tokens + ledger.reserved} of ${tokensTotal} tokens are used`]),
    ];
  }

  /**
   * An answer that has to be read must not be compressed. To decompress it here would cost more than the transfer saves,
   * and memory that the upstream chooses.
   */
  get upstreamFields(): readonly Field[] {
    return this.#rules.readsAnswer ? [{ name: 'Accept-Encoding', value: 'identity' }] : [];
  }

  start(run: RunControl): void {
    this.#rules.expiry?.start(run);
    this.#rules.log?.start();
  }

  begin(head: RequestHead): RequestObserver {
    return new RequestOversight(this.#entries.begin(head), this.#rules);
  }

  /** Opens the log anew, after it was renamed. */
  reopen(): void {
    this.#rules.log?.reopen();
  }

  stop(): void {
    this.#entries.stop();
  }

  close(): void {
    this.#entries.stop();
    this.#rules.log?.close();
  }
}

/**
 * One run of the daemon, from top to bottom: harden, options, key, upstream, listen, announce, wait, stop.
 * Only this file ends the process.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { Injection } from './key/injection.ts';
import { KeyLines } from './key/key-lines.ts';
import { LockedKey, lockedBytes } from './key/locked-key.ts';
import { custodyOf, lockMemory } from './key/locked-memory.ts';
import type { Account, Native } from './native/native.ts';
import { type Options, parseCommandLine } from './options.ts';
import { kernelSockets } from './proxy/kernel-sockets.ts';
import { type Field, ownFields } from './proxy/headers.ts';
import { listen } from './proxy/listener.ts';
import { type Observer, noObserver } from './proxy/observer.ts';
import { rehearse } from './proxy/rehearsal.ts';
import { explain } from './proxy/upstream-error.ts';
import { upstreamConnector } from './proxy/upstream-connector.ts';
import { UpstreamPool } from './proxy/upstream-pool.ts';
import { PooledRequest } from './proxy/upstream.ts';
import { BoundedLog } from './run/bounded-log.ts';
import { Failure, exitCodes } from './run/failure.ts';
import { checkUntraced, harden } from './run/hardening.ts';
import { installationExposure } from './run/installation.ts';
import { Log } from './run/log.ts';
import { fitConnections } from './run/open-files.ts';
import { stderrDescriptor } from './run/preload.ts';
import { checkSandbox, enterServingSandbox } from './run/sandbox.ts';
import { ServerInfoFile } from './run/server-info.ts';
import { stopSignals } from './run/signals.ts';
import { heldPath } from './run/written-file.ts';

const stdin = 0;
const tokenBytes = 32;

const log = new Log(stderrDescriptor);
const events = new BoundedLog(log);
/** What must happen on every way out. */
const cleanups: Array<() => void> = [];
process.on('exit', () => cleanups.forEach(attempt));
process.on('uncaughtException', fail);

await main().catch(fail);

async function main(): Promise<void> {
  const stoppedBy = stopSignals();
  const native = harden();
  const sockets = kernelSockets(native);

  if (process.argv[2] === 'audit') {
    const { auditCommand } = await (await extras()).loadAuditCommand();
    process.exit(await auditCommand(process.argv.slice(3), {
      stdout: process.stdout,
      say: (message) => log.say(message),
      nameOf: (uid) => native.account(String(uid))?.name,
    }));
  }
  const options = await parseCommandLine(process.argv.slice(2), process.env);
  if (typeof options === 'string') return print(`${options}\n`);
  const { listenOn, isKeyRenewable, issuesToken, tokenFile } = options;
  const given = tokenFile === undefined ? undefined : (await extras()).readClientToken(tokenFile);
  const token = issuesToken ? randomBytes(tokenBytes).toString('base64url') : given?.token;
  const namesUsers = options.runAs !== undefined || options.allowUsers.length > 0;
  const { runAs, giveUpRoot, tokenOwner, allowedUids = [] } = namesUsers ? (await extras()).findUsers(options, native) : {};
  const exposure = installationExposure();
  for (const notice of options.notices) log.say(notice);
  if (exposure !== undefined) log.say(`${exposure}, who could then read the key`);
  const observer = await openOversight(options, runAs, native);
  const asksPeers = allowedUids.length > 0 || options.auditLog !== undefined;
  const peerUidOf = asksPeers ? (await extras()).peerLookup(native, allowedUids.length > 0) : undefined;
  const infoFile = openServerInfo(options, tokenOwner);
  if (runAs !== undefined || options.check) await rehearse(sockets); // root may read files that the other user may not
  const memory = lockMemory(lockedBytes(isKeyRenewable), native, options.unsafeUnlockedMemory);
  cleanups.push(() => memory.buffer.fill(0)); // the first of them: the others may fail or be slow
  if (memory.kind === 'unlocked') log.say('--unsafe-unlocked-memory: the key may be written to swap');
  for (const loss of [checkSandbox(native, options.unsafeNoSandbox), given?.weakness]) if (loss !== undefined) log.say(loss);
  checkUntraced();
  const custody = custodyOf[memory.kind];
  const giveUpRights = (): void => {
    if (giveUpRoot !== undefined) giveUpRoot();
    else if (process.geteuid?.() === 0) log.say('running as root; --run-as USER gives root up once started');
    checkUntraced();
    process.chdir('/'); // all paths are resolved; a folder that is in use could not be unmounted
    if (!options.unsafeNoSandbox) enterServingSandbox(native, options.auditLog !== undefined, infoFile !== undefined);
  };
  if (options.check) {
    const { check } = await (await extras()).loadCheck();
    giveUpRights();
    return print(await check(options, { allowedUids, tokenOwner, notices: observer.notices, custody }));
  }
  const key = await readKey(memory.buffer, isKeyRenewable);
  checkUntraced(); // waiting for the key may have taken long

  // Until now a signal has ended the process, as it should while that waits for the key. A second one does so from now on.
  const stop = new AbortController();
  const isStopped = once(stop.signal, 'abort');
  for (const signal of stoppedBy) process.on(signal, () => (stop.signal.aborted ? process.exit(exitCodes.stopped) : stop.abort(signal)));
  const injection = new Injection(key);
  observer.start({ endKey: () => key.end(), stop: () => stop.abort('--expire-at'), say: (message) => log.say(message) });
  cleanups.push(() => observer.close());
  const upstreamHost = options.upstream.origin.host;
  const pool = new UpstreamPool(upstreamConnector(options.upstream), { ...options.upstream, injection, sockets }, (error) => {
    const { problem, detail } = explain(error, upstreamHost);
    events.say(`no connection to the upstream yet: ${problem.code}: ${detail}`);
  });
  const { maxConnections, lowered } = fitConnections();
  if (lowered !== undefined) log.advise(lowered);
  const server = await listen(listenOn, native, {
    maxConnections,
    rules: {
      endpoint: options.endpoint,
      shutdown: options.httpShutdown,
      health: options.httpHealth,
      websocketFallback: options.websocketFallback,
      allowedUids: allowedUids.length === 0 ? undefined : new Set(allowedUids),
      token: token === undefined ? undefined : Buffer.from(token),
    },
    peerUidOf,
    upstream: (sink) => new PooledRequest(sink, options.upstream.target, pool),
    upstreamHost,
    ownFields: ownFields(credentialField(options, injection.placeholder), [...options.upstreamHeaders, ...observer.upstreamFields]),
    events,
    sockets,
    observer,
    onShutdownRequest: (uid) => stop.abort(`GET /shutdown${uid === undefined ? '' : ` from uid ${uid}`}`),
  });
  cleanups.push(() => server.cut());

  if (infoFile !== undefined) {
    infoFile.write({ port: server.port, pid: process.pid, ...(issuesToken && token !== undefined && { token }) }, tokenOwner);
    cleanups.push(() => infoFile.remove(process.pid));
  }
  giveUpRights();
  // Before the "listening" line, which others wait for.
  const isForAll = allowedUids.length === 0 && token === undefined;
  log.say(`key in ${custody}${isForAll ? '; every user of this machine may use it (see --allow-user)' : ''}`);
  for (const notice of observer.notices) log.say(notice);
  log.line(`responses-api-proxy listening on 127.0.0.1:${server.port}`);
  pool.keepReady();
  if (runAs === undefined) rehearse(sockets).catch(fail);

  await isStopped;
  const running = server.running();
  log.say(`stopping (${stop.signal.reason})${running === 0 ? '' : `; waits up to ${options.shutdownTimeoutMs / 1000} s for running requests: ${running}`}`);
  await server.stop(options.shutdownTimeoutMs);
  process.exit(exitCodes.stopped);
}

function print(text: string): void {
  process.stdout.write(text, () => process.exit(exitCodes.stopped));
}

async function readKey(memory: Buffer, isRenewable: boolean): Promise<LockedKey> {
  const renewal = isRenewable ? await extras() : undefined;
  renewal?.checkRenewable(stdin);
  const { key, next } = LockedKey.read(stdin, memory, isRenewable);
  if (renewal !== undefined) {
    const report = (message: string): void => events.say(message, message); // no flood of bad lines may hide a renewal
    renewal.readOn(stdin, new KeyLines(key, next, report), report);
    return key;
  }
  // A pipe that is still open would keep its writer waiting, and could hold what came after the key.
  closeSync(stdin);
  openSync('/dev/null', 'r'); // open(2) takes the lowest free descriptor
  return key;
}

/** What only a flag or a command loads. Nothing of it is loaded once the key is there: that could let a turn of the event loop pass. */
function extras() {
  return import('./extras/index.ts');
}

async function openOversight(options: Options, owner: Account | undefined, native: Native): Promise<Observer> {
  const { auditLog, policyFile, expireAt } = options;
  if ((auditLog ?? policyFile ?? expireAt) === undefined) return noObserver;
  const { Oversight } = await (await extras()).loadOversight();
  const oversight = new Oversight(options, { owner, native, report: (message) => events.say(message, 'oversight') });
  process.on('SIGUSR2', () => oversight.reopen());
  return oversight;
}

/** The file to be written once the daemon listens. It is looked at here, before the key is read. */
function openServerInfo({ serverInfo, issuesToken }: Options, owner: Account | undefined): ServerInfoFile | undefined {
  if (serverInfo === undefined) return undefined;
  const file = new ServerInfoFile(serverInfo, heldPath('--server-info', serverInfo));
  file.check(issuesToken, owner);
  const other = file.liveDaemon();
  if (other !== undefined) log.say(`--server-info ${serverInfo} names a daemon that is running (pid ${other.pid}, port ${other.port}); it is to name this one`);
  return file;
}

/** One that fails does not keep the others from happening. */
function attempt(cleanUp: () => void): void {
  try {
    cleanUp();
  } catch (error) {
    // The code alone: a message could hold anything.
    const { code, errno = 'unknown' } = error as NodeJS.ErrnoException;
    log.say(`cleaning up failed: ${code ?? errno}`);
  }
}

function credentialField({ authHeader, authScheme }: Options, key: string): Field {
  return { name: authHeader, value: authScheme === undefined ? key : `${authScheme} ${key}` };
}

/** Ends the run for a reason of its own. */
function fail(error: unknown): never {
  if (error instanceof Failure) {
    log.advise(error);
    process.exit(error.exitCode);
  }
  // Its message and stack could hold anything; the name and code help in a report.
  const { name, errno, code = errno } = (error instanceof Error ? error : { name: 'unknown' }) as Omit<NodeJS.ErrnoException, 'message'>;
  log.advise({ message: `internal error: ${name}${code === undefined ? '' : ` (${code})`}`, hint: 'this is a defect; please report it, with the line above, where you got responses-api-proxy' });
  process.exit(exitCodes.failed);
}

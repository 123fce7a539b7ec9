import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import net from 'node:net';
import { cleanUp } from './cleanup.ts';
import { eventually, isConnecting } from './process-facts.ts';

/** A port whose queue is full: a SYN gets no answer, as on a network that drops it, until `answer` is called. The kernel then sends it again within seconds. */
export interface SilentListener {
  readonly port: number;
  answer(): void;
}

/** What listens there: a process that is stopped, and that passes its connections on to a port of 127.0.0.1 once it goes on. (node takes a backlog of 0 for none given.) */
const program = `const net = require('net');
const [host, onward] = process.argv.slice(1);
const server = net.createServer((client) => {
  const upstream = net.connect({ port: Number(onward), host: '127.0.0.1' });
  for (const [one, other] of [[client, upstream], [upstream, client]]) one.on('error', () => {}).on('close', () => other.destroy()).pipe(other);
}).listen({ port: 0, host, backlog: 1 }, () => process.stdout.write(server.address().port + '\\n'));`;

/** @param onward where connections lead, once it answers */
export async function listenSilently(onward = 1, host = '127.0.0.1'): Promise<SilentListener> {
  const child = spawn(process.execPath, ['-e', program, host, String(onward)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('close', resolve));
  cleanUp(() => {
    child.kill('SIGKILL');
    return ended;
  });
  const port = await new Promise<number>((resolve) => createInterface({ input: child.stdout }).once('line', (line) => resolve(Number(line))));
  child.kill('SIGSTOP');
  for (;;) {
    const filler = net.connect({ port, host });
    let isConnected = false;
    filler.once('connect', () => (isConnected = true)).on('error', () => {});
    await eventually(() => isConnected || isConnecting(port), () => 'a connection, or a SYN without an answer');
    // On loopback a SYN is answered at once, or not at all. One that is connected stays in the queue, also when it is closed.
    filler.destroy();
    if (!isConnected) break;
  }
  await eventually(() => !isConnecting(port), () => 'the end of the last attempt');
  return { port, answer: () => void child.kill('SIGCONT') };
}

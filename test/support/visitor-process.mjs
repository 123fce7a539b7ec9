// A client that is a process of its own, so that it can be another user's. It is told what to do in one line of JSON on stdin:
//   { port, host, localAddress, localPort, raw, how, times, atOnce }
// and writes one line of JSON for each thing that happened: {"connected":true}, {"status":403,"code":"..."}, {"error":"EADDRINUSE"}.
// how: 'ask' waits for an answer, 'hold' connects and sends `raw` but waits for nothing, 'close' ends it at once, 'reset' resets it at
// once, 'any' does one of ask, close and reset in turn. `times` 0 goes on until stdin ends; `atOnce` is how many it keeps open.
import net from 'node:net';

let text = '';
let ended = false;
process.stdin.setEncoding('utf8').on('data', (data) => {
  const hadLine = text.includes('\n');
  text += data;
  if (!hadLine && text.includes('\n')) void main(JSON.parse(text));
}).on('end', () => {
  ended = true;
});

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

async function main({ port, host = '127.0.0.1', localAddress, localPort, raw, how = 'ask', times = 1, atOnce = 1 }) {
  let visits = 0;
  const visitor = async () => {
    while (times === 0 ? !ended : visits < times) {
      visits++;
      say(await visit({ port, host, localAddress, localPort }, Buffer.from(raw, 'latin1'), how === 'any' ? ['ask', 'close', 'reset'][visits % 3] : how));
      // A failed connect may fail again at once, without ever letting stdin be read.
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, visitor));
  say({ done: visits });
  if (how !== 'hold') process.exit(0);
}

function visit(options, raw, how) {
  return new Promise((resolve) => {
    const socket = net.connect({ ...options, noDelay: true, allowHalfOpen: true });
    let answer = '';
    socket.setEncoding('latin1').on('data', (data) => {
      answer += data;
      const [, status] = /^HTTP\/1\.1 ([2-9]\d\d) .*\r\n\r\n/s.exec(answer) ?? [];
      if (status === undefined || !answer.includes('}')) return;
      socket.destroy();
      resolve({ status: Number(status), code: /"code":"(\w+)"/.exec(answer)?.[1] ?? null });
    });
    socket.on('error', ({ code }) => resolve({ error: code }));
    socket.on('end', () => {
      socket.destroy();
      resolve({ error: 'end' });
    });
    socket.once('connect', () => {
      if (how === 'hold' && raw.length === 0) return resolve({ connected: true });
      socket.write(raw, () => {
        if (how === 'hold') resolve({ connected: true });
        if (how === 'close') socket.destroy();
        if (how === 'reset') socket.resetAndDestroy();
        if (how === 'close' || how === 'reset') socket.once('close', () => resolve({ left: how }));
      });
    });
  });
}

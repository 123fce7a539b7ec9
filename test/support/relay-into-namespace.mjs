/** PORT SOCKET COMMAND...: what connects to 127.0.0.1:PORT here gets to SOCKET, which listens elsewhere. Ends with the command. */
import { spawn } from 'node:child_process';
import net from 'node:net';

const [port, path, command, ...args] = process.argv.slice(2);
const server = net.createServer((client) => {
  const onward = net.connect(path);
  client.on('error', () => onward.destroy()).pipe(onward);
  onward.on('error', () => client.destroy()).pipe(client);
});
server.listen(Number(port), '127.0.0.1', () => {
  spawn(command, args, { stdio: 'inherit' }).once('exit', (code) => process.exit(code ?? 1));
});

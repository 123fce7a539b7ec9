import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { type Duplex, duplexPair } from 'node:stream';
import tls from 'node:tls';
import { caFile, identity } from './certificates.ts';
import { cleanUp } from './cleanup.ts';
import { Changing } from './wait.ts';

/** Content types of TLS records (RFC 8446 section 5.1). */
export const contentType = { handshake: 22, applicationData: 23 } as const;

const headerBytes = 5;
const tagBytes = 16;

/** A NewSessionTicket message (RFC 8446 section 4.6.1), with a ticket of `length` bytes that resumes nothing. */
export function newSessionTicket(length: number): Buffer {
  const body = Buffer.alloc(4 + 4 + 1 + 2 + length + 2);
  body.writeUInt32BE(7200, 0);
  body.writeUInt16BE(length, 9);
  return Buffer.concat([Buffer.from([4, 0, body.length >> 8, body.length & 0xff]), body]);
}

/** Encrypts or decrypts the records of one direction with TLS_AES_128_GCM_SHA256 (RFC 8446 section 5.2). */
export class RecordCipher {
  readonly #secret: Buffer;
  readonly #key: Buffer;
  readonly #iv: Buffer;
  #sequence = 0n;

  constructor(trafficSecret: Buffer) {
    this.#secret = trafficSecret;
    this.#key = expandLabel(trafficSecret, 'key', 16);
    this.#iv = expandLabel(trafficSecret, 'iv', 12);
  }

  seal(type: number, content: Uint8Array): Buffer {
    const inner = Buffer.concat([content, Buffer.from([type])]);
    const header = Buffer.from([contentType.applicationData, 3, 3, 0, 0]);
    header.writeUInt16BE(inner.length + tagBytes, 3);
    const cipher = createCipheriv('aes-128-gcm', this.#key, this.#nonce()).setAAD(header);
    const sealed = Buffer.concat([header, cipher.update(inner), cipher.final(), cipher.getAuthTag()]);
    this.#sequence++;
    return sealed;
  }

  /** Undefined for a record that another key sealed. */
  open(record: Buffer): { readonly type: number; readonly content: Buffer } | undefined {
    const decipher = createDecipheriv('aes-128-gcm', this.#key, this.#nonce()).setAAD(record.subarray(0, headerBytes));
    decipher.setAuthTag(record.subarray(-tagBytes));
    const inner = decipher.update(record.subarray(headerBytes, -tagBytes));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    this.#sequence++;
    return { type: inner.at(-1) ?? 0, content: inner.subarray(0, -1) };
  }

  /** The one that follows a KeyUpdate (RFC 8446 section 7.2). */
  next(): RecordCipher {
    return new RecordCipher(expandLabel(this.#secret, 'traffic upd', 32));
  }

  #nonce(): Buffer {
    const nonce = Buffer.from(this.#iv);
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ this.#sequence, 4);
    return nonce;
  }
}

/** HKDF-Expand-Label without context, for at most one block of SHA-256 (RFC 8446 section 7.1). */
function expandLabel(secret: Buffer, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.from([0, length, name.length]), name, Buffer.from([0, 1])]);
  return createHmac('sha256', secret).update(info).digest().subarray(0, length);
}

/** One connection from the daemon. */
export class RecordConnection {
  /** Sizes of the daemon's encrypted records since its handshake, in bytes. */
  readonly received: number[] = [];
  isReady = false;
  hasEnded = false;
  /** Sent in one piece with each answer, behind it. */
  behindAnswer: readonly [type: number, content: Uint8Array] | undefined;
  readonly #tcp: net.Socket;
  #open: RecordCipher | undefined;
  #seal: RecordCipher | undefined;

  constructor(tcp: net.Socket) {
    this.#tcp = tcp;
  }

  /** Sends a record of any content, whole or not. */
  send(type: number, content: Uint8Array): void {
    this.sendTogether([[type, content]]);
  }

  /** Sends records in one piece. */
  sendTogether(records: ReadonlyArray<readonly [type: number, content: Uint8Array]>): void {
    const seal = this.#seal;
    if (seal === undefined) throw new Error('the handshake is not done');
    this.#tcp.write(Buffer.concat(records.map(([type, content]) => seal.seal(type, content))));
  }

  /** Used by the upstream: all records that node's TLS sends to the daemon from now on are sealed with this. */
  useSecret(secret: Buffer): void {
    this.#open = new RecordCipher(secret);
    this.#seal = new RecordCipher(secret);
  }

  /** Used by the upstream: passes a record of node's TLS on, unless it is a session ticket. */
  relay(record: Buffer): void {
    const opened = record[0] === contentType.applicationData ? this.#open?.open(record) : undefined;
    if (opened === undefined || this.#seal === undefined) return void this.#tcp.write(record);
    if (opened.type === contentType.handshake) return;
    const records = [this.#seal.seal(opened.type, opened.content)];
    if (opened.type === contentType.applicationData && this.behindAnswer !== undefined) records.push(this.#seal.seal(...this.behindAnswer));
    this.#tcp.write(Buffer.concat(records));
  }
}

/**
 * An upstream over TLS 1.3 that answers every request with 200, and can put any record between those of node's TLS,
 * such as a part of a session ticket. It knows the session's keys, opens node's records and seals them anew. It sends no tickets
 * by itself.
 */
export class RecordUpstream {
  readonly connections: RecordConnection[] = [];
  /** All that have arrived whole. */
  readonly requests: Array<{ readonly authorization: string | undefined; readonly body: string }> = [];
  /** Called with each connection when its handshake is done. */
  onReady: (connection: RecordConnection) => void = () => {};
  /** The body of the answer to a request's body. */
  answerTo: (body: string) => string = () => '{}';
  readonly args: readonly string[];
  readonly #changing = new Changing();
  readonly #http: http.Server;
  readonly #context: tls.SecureContext;

  constructor(server: net.Server) {
    const { port } = server.address() as net.AddressInfo;
    const { key, cert } = identity('good');
    this.args = ['--upstream-url', `https://localhost:${port}/v1/responses`, '--upstream-ca', caFile()];
    this.#context = tls.createSecureContext({ key: readFileSync(key), cert: readFileSync(cert), minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' });
    this.#http = http.createServer((req, res) => {
      let body = '';
      req.setEncoding('latin1').on('data', (text: string) => (body += text));
      req.once('end', () => {
        this.requests.push({ authorization: req.headers.authorization, body });
        const answer = this.answerTo(body);
        res.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length }).end(answer);
        this.#changing.changed();
      });
    });
    server.on('connection', (tcp) => this.#accept(tcp));
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    await this.#changing.when(() => (condition() ? true : undefined), () => what);
  }

  #accept(tcp: net.Socket): void {
    const connection = new RecordConnection(tcp);
    this.connections.push(connection);
    const [near, far] = duplexPair();
    const secured = new tls.TLSSocket(near, { isServer: true, secureContext: this.#context });
    secured.on('error', () => {}).on('keylog', (line: Buffer) => {
      const [label, , secret = ''] = line.toString('latin1').trim().split(' ');
      if (label === 'SERVER_TRAFFIC_SECRET_0') connection.useSecret(Buffer.from(secret, 'hex'));
    });
    secured.once('secure', () => {
      this.#http.emit('connection', secured);
      connection.isReady = true;
      this.onReady(connection);
      this.#changing.changed();
    });
    onRecords(far, (record) => connection.relay(record));
    onRecords(tcp, (record) => {
      if (connection.isReady) connection.received.push(record.length);
      far.write(record);
    });
    tcp.on('error', () => {}).once('close', () => {
      connection.hasEnded = true;
      secured.destroy();
      this.#changing.changed();
    });
  }
}

/** Starts it; it ends with the test. */
export async function startRecordUpstream(): Promise<RecordUpstream> {
  const open = new Set<net.Socket>();
  const server = net.createServer({ noDelay: true }, (tcp) => open.add(tcp));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const tcp of open) tcp.destroy();
    await closed;
  });
  return new RecordUpstream(server);
}

/** Calls back with each record of a stream of them, whole. */
export function onRecords(stream: Duplex, take: (record: Buffer) => void): void {
  let bytes: Buffer = Buffer.alloc(0);
  stream.on('data', (data: Buffer) => {
    bytes = Buffer.concat([bytes, data]);
    while (bytes.length >= headerBytes) {
      const length = headerBytes + bytes.readUInt16BE(3);
      if (bytes.length < length) return;
      take(bytes.subarray(0, length));
      bytes = bytes.subarray(length);
    }
  });
}

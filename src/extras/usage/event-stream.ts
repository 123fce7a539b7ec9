const [lineFeed, carriageReturn, colon, space] = [0x0a, 0x0d, 0x3a, 0x20];

/** Longest event name that is kept, in bytes. */
const maxEventNameBytes = 64;

const newline = Buffer.from('\n');
const dataField = Buffer.from('data:');
const eventField = Buffer.from('event:');

/** What becomes of the events of a stream. */
export interface EventConsumer {
  /** Whether the data of an event are wanted, by the name that came before them; '' where none did. */
  wants(eventName: string): boolean;
  /** The next bytes of an event's data. */
  data(bytes: Buffer): void;
  /** An event that was wanted is complete. */
  end(): void;
}

/**
 * Takes an event stream apart as its bytes pass, in pieces of any size, and keeps none of them (WHATWG HTML, section 9.2.6,
 * "Interpreting an event stream"): lines end with LF, CRLF or CR, an event with an empty line.
 */
export class EventStream {
  readonly #consumer: EventConsumer;
  #eventName = '';
  #hasData = false;
  #isWanted = false;
  /** The line's field, once its colon was there. Before that, what there is of its name is in `#start`. */
  #field: 'event' | 'data' | 'other' | undefined;
  #start = '';
  /** A space is still to come that belongs to the colon. */
  #isAfterColon = false;
  #isAfterCarriageReturn = false;

  constructor(consumer: EventConsumer) {
    this.#consumer = consumer;
  }

  write(bytes: Buffer): void {
    let nextLineFeed = -1;
    let nextReturn = -1;
    for (let at = 0; at < bytes.length; ) {
      if (this.#isAfterCarriageReturn) {
        this.#isAfterCarriageReturn = false;
        if (bytes[at] === lineFeed && ++at === bytes.length) return;
      }
      if (nextLineFeed < at) nextLineFeed = bytes[at] === lineFeed ? at : position(bytes, lineFeed, at);
      if (nextReturn < at) nextReturn = position(bytes, carriageReturn, at);
      const end = Math.min(nextLineFeed, nextReturn);
      if (end > at) this.#read(bytes, at, end);
      if (end === bytes.length) return;
      this.#isAfterCarriageReturn = end === nextReturn;
      this.#endLine();
      at = end + 1;
    }
  }

  /** The stream is over. An event whose empty line is missing counts as well: what it says was said. */
  end(): void {
    this.#endEvent();
  }

  /** Reads the part of a line that lies between `from` and `to`. */
  #read(bytes: Buffer, from: number, to: number): void {
    let at = from;
    if (this.#field === undefined && this.#start === '') at += this.#readField(bytes, from, to);
    while (this.#field === undefined && at < to) this.#readName(bytes[at++] ?? 0);
    if (at === to) return;
    if (this.#isAfterColon) {
      this.#isAfterColon = false;
      if (bytes[at] === space && ++at === to) return;
    }
    if (this.#field === 'data') {
      if (!this.#hasData) this.#isWanted = this.#consumer.wants(this.#eventName);
      this.#hasData = true;
      if (this.#isWanted) this.#consumer.data(bytes.subarray(at, to));
    } else if (this.#field === 'event' && this.#eventName.length + to - at <= maxEventNameBytes) {
      this.#eventName += bytes.toString('latin1', at, to);
    }
  }

  /** The common case: a field's name is here as a whole. Returns the length of what it read, 0 where it is another case. */
  #readField(bytes: Buffer, at: number, to: number): number {
    if (begins(bytes, at, to, dataField)) {
      this.#field = 'data';
      this.#isAfterColon = true;
      return dataField.length;
    }
    if (!begins(bytes, at, to, eventField)) return 0;
    this.#field = 'event';
    this.#eventName = '';
    this.#isAfterColon = true;
    return eventField.length;
  }

  #readName(byte: number): void {
    if (byte === colon) {
      this.#field = this.#start === 'data' || this.#start === 'event' ? this.#start : 'other';
      if (this.#field === 'event') this.#eventName = '';
      this.#isAfterColon = true;
      return;
    }
    this.#start += String.fromCharCode(byte);
    if (this.#start.length > 'event'.length) this.#field = 'other';
  }

  #endLine(): void {
    const isEmpty = this.#field === undefined && this.#start === '';
    // The lines of an event's data are joined by newlines, which mean nothing between JSON's tokens.
    if (this.#field === 'data' && this.#hasData && this.#isWanted) this.#consumer.data(newline);
    this.#field = undefined;
    this.#start = '';
    this.#isAfterColon = false;
    if (isEmpty) this.#endEvent();
  }

  #endEvent(): void {
    if (this.#hasData && this.#isWanted) this.#consumer.end();
    this.#hasData = false;
    this.#eventName = '';
  }
}

/** Whether the bytes from `at` to `to` begin like this. */
function begins(bytes: Buffer, at: number, to: number, beginning: Buffer): boolean {
  if (to - at < beginning.length) return false;
  for (let i = 0; i < beginning.length; i++) if (bytes[at + i] !== beginning[i]) return false;
  return true;
}

/** Where a byte comes next; the bytes' length if it does not. */
function position(bytes: Buffer, byte: number, from: number): number {
  const found = bytes.indexOf(byte, from);
  return found === -1 ? bytes.length : found;
}

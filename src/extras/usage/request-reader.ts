import { JsonScanner, wantedMembers } from './json-scanner.ts';

const wanted = wantedMembers(['model', 'stream']);

/** What a request's body says about itself. Undefined is what could not be read. */
export interface Asked {
  readonly model: string | undefined;
  readonly stream: boolean | undefined;
}

/** Reads `model` and `stream` out of a request's body as it passes, for where no policy has parsed it. Never throws. */
export class RequestReader {
  readonly #scanner = new JsonScanner(wanted);

  /** Reads the body's next bytes, without keeping or changing them. */
  write(bytes: Buffer): void {
    this.#scanner.write(bytes);
  }

  /** What was read. The API takes a missing `stream` for false, but only the end of the body tells that it is missing. */
  get asked(): Asked {
    const { found, isComplete } = this.#scanner;
    const model = found.get('model');
    const stream = found.get('stream') ?? (isComplete ? false : undefined);
    return {
      model: typeof model === 'string' ? model : undefined,
      stream: typeof stream === 'boolean' ? stream : undefined,
    };
  }
}

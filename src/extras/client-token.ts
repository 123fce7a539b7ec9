import { Failure } from '../run/failure.ts';
import { readTrustedFile } from './trusted-file.ts';

/** Longest token of `--client-token-file`, in bytes. A request head has room for 64 KiB. */
const maxTokenBytes = 8 * 1024;

/** As many as an AES-128 key: beyond what can be tried. */
const strongTokenBits = 128;

/** Random tokens of 128 bits have more; fewer is a word or a pattern. In 32 random hex digits, one time in 20 million. */
const fewestDifferentCharacters = 8;

/** What a token can be written in, from the smallest on. Dashes are free: a UUID has them in fixed places. */
const alphabets: ReadonlyArray<readonly [alphabet: RegExp, size: number]> = [
  [/^[0-9-]*$/, 10],
  [/^[0-9a-f-]*$/, 16],
  [/^[0-9A-F-]*$/, 16],
  [/^[0-9a-z-]*$/, 36],
  [/^[0-9A-Z-]*$/, 36],
  [/^[0-9A-Za-z]*$/, 62],
  [/^[0-9A-Za-z_+/-]*$/, 64],
];
const allCharacters = 67; // with the . and ~ that RFC 6750 also allows

/**
 * Reads the token of `--client-token-file`.
 *
 * @returns the token, and what to tell the daemon's user if it can be guessed
 * @throws {Failure} when there is none, or others could have put it there
 */
export function readClientToken(file: string): { readonly token: string; readonly weakness: string | undefined } {
  const token = readTrustedFile('--client-token-file', file).replace(/[\r\n]+$/, '');
  if (!/^[A-Za-z0-9._~+/-]+=*$/.test(token) || token.length > maxTokenBytes) {
    throw new Failure(`--client-token-file ${file} holds no token`, {
      hint: `one line of letters, digits and - . _ ~ + / =, at most ${maxTokenBytes}; for example: openssl rand -hex 32`,
    });
  }
  return { token, weakness: isWeakToken(token) ? '--client-token-file holds a token of less than 128 bits, which can be guessed; make one with: openssl rand -hex 32' : undefined };
}

/**
 * Whether a token can be guessed, by its length and its alphabet: 32 hex digits or 22 characters of base64url are enough.
 * It is an upper bound: what was not made at random is weaker than it looks.
 */
function isWeakToken(token: string): boolean {
  const text = token.replace(/=+$/, '');
  const size = alphabets.find(([alphabet]) => alphabet.test(text))?.[1] ?? allCharacters;
  const length = size < 62 ? text.replaceAll('-', '').length : text.length;
  return new Set(text).size < fewestDifferentCharacters || length * Math.log2(size) < strongTokenBits;
}

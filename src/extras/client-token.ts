import { Failure } from '../run/failure.ts';
import { readTrustedFile } from './trusted-file.ts';

/** Longest token of `--client-token-file`, in bytes. A request head has room for 64 KiB. */
const maxTokenBytes = 8 * 1024;

/** As many hex digits as 128 bits take. What was not made at random is weak at any length, which nothing here can see. */
const shortestStrongToken = 32;

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
  const isShort = token.replace(/=+$/, '').length < shortestStrongToken;
  const weakness = `--client-token-file holds a token of less than ${shortestStrongToken} characters, which may be guessed; make one with: openssl rand -hex 32`;
  return { token, weakness: isShort ? weakness : undefined };
}

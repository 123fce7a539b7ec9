import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Native } from '../../src/native/native.ts';
import { checkout } from './checkout.ts';

/** The built addon, for functions that are given it. */
export function builtNative(): Native {
  return createRequire(import.meta.url)(join(checkout, 'dist', 'native', `${process.arch}.node`)) as Native;
}

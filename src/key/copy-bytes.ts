/**
 * Copies key bytes within locked memory, one at a time.
 *
 * `set`, `copy` and `copyWithin` call memmove(3), which leaves pieces of 16 bytes in vector registers. V8 saves
 * these in ordinary memory: the deoptimizer on the heap, write barriers on the stack.
 *
 * @param source the bytes to copy
 * @param target at least as long as `source`; it may overlap it if it begins before it
 */
export function copyBytes(source: Uint8Array, target: Uint8Array): void {
  for (let at = 0; at < source.length; at++) target[at] = source[at] as number;
}

import { fileURLToPath } from 'node:url';

/** The checkout's top folder. */
export const checkout = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** What the launcher runs in the end. */
export const builtMain = `${checkout}/dist/main.js`;

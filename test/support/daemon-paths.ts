import { inject } from 'vitest';

export { builtMain, checkout } from './checkout.ts';

/**
 * What the package's bin points to: the only way the tests ever start the daemon. It is this checkout's, unless root runs
 * the tests in a folder that is closed to other users: then it is that of a copy, for tests that start it as another user.
 */
export const launcher = inject('launcher');

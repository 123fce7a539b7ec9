import base from '../vitest.config.ts';

/** The real browser: for CI, which installs one. Each test is skipped, and says so, where there is none. */
export default { ...base, test: { ...base.test, include: ['test/browser/**/*.browser.ts'] } };

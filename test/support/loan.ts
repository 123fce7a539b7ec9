/** A key is lent for this long at first, in milliseconds: long enough on a machine that is not busy. */
const shortestMs = 3_000;

/**
 * What `begin` resolves with, started with a loan that was not over by then. Where the machine was too busy for that, it begins again with
 * a longer loan.
 * @param begin starts a daemon with these flags, and does what has to be done during the loan
 */
export async function duringLoan<T>(begin: (args: readonly string[], until: Date) => Promise<T>): Promise<T> {
  for (let loanMs = shortestMs; ; loanMs *= 2) {
    const until = new Date(Date.now() + loanMs);
    const isOver = (): boolean => Date.now() >= until.getTime();
    try {
      const begun = await begin(['--expire-at', until.toISOString()], until);
      if (!isOver()) return begun;
    } catch (error) {
      if (!isOver()) throw error;
    }
  }
}

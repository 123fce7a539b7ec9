/**
 * Takes SIGUSR1 from node, which would open a debugger port for every user of the machine. (`--disable-sigusr1` does not
 * exist on Node 20.) It acts on import and is imported first, so that nothing slow comes before it; a signal that was
 * faster still shows in `checkUnobserved`.
 */
process.on('SIGUSR1', () => {});

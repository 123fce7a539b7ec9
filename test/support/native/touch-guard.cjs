// touch-guard.cjs ADDON TOUCH BYTES OFFSET [required|waived]
//
// Allocates an area of BYTES, prints its kind, writes to the byte at OFFSET (0 is the first) and prints "survived".
// An OFFSET on a guard page ends it with SIGSEGV: BYTES and above, and, where BYTES is whole pages, -1 and below.
const [addonFile, touchFile, bytes, offset, locking = 'required'] = process.argv.slice(2);
const { resolve } = require('node:path');
const { writeSync } = require('node:fs');

const addon = require(resolve(addonFile));
const { touch } = require(resolve(touchFile));

addon.harden(); // dying is the point, no need to keep the body
const { buffer, kind } = addon.allocate(Number(bytes), locking === 'waived');
writeSync(1, `${kind}\n`); // at once: what is buffered dies with the process
touch(buffer, Number(offset));
writeSync(1, 'survived\n');

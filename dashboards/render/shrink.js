// Makes a picture small: the colours that it needs, and no more. `node shrink.js FROM TO`

import { readFileSync, writeFileSync } from 'node:fs';
import upng from 'upng-js';

const COLOURS = 96;
const [from, to] = process.argv.slice(2);
const picture = upng.decode(readFileSync(from));
writeFileSync(to, Buffer.from(upng.encode(upng.toRGBA8(picture), picture.width, picture.height, COLOURS)));

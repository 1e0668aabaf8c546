// SPDX-License-Identifier: MIT
// libperfetto.js DIR TRACE SQL...: opens TRACE with the trace processor of Perfetto's
// user interface, whose files lie in DIR, and prints the rows of each query as a line
// of JSON.  DIR has engine_bundle.js, which a browser runs in a worker: it gets what a
// worker has, and is spoken to as the page speaks to it (trace_processor.proto).
'use strict';
const fs = require('fs');
const path = require('path');
const vm = require('vm');

const [dir, trace, ...queries] = process.argv.slice(2);
const APPEND = 1, FINALIZE = 2, QUERY = 3; // TraceProcessorMethod

// ---- protocol buffers ----

function varint(n) {
  const bytes = [];
  for (; n >= 128; n = Math.floor(n / 128)) bytes.push(n % 128 + 128);
  return Buffer.from([...bytes, n]);
}

function number(field, n) {
  return Buffer.concat([varint(field * 8), varint(n)]);
}

function bytes(field, data) {
  return Buffer.concat([varint(field * 8 + 2), varint(data.length), data]);
}

function* varints(data) {
  let n = 0n, shift = 0n;
  for (const byte of data) {
    n |= BigInt(byte & 127) << shift;
    shift += 7n;
    if (byte & 128) continue;
    yield Number(BigInt.asIntN(64, n));
    n = shift = 0n;
  }
}

// [field, value] of a message: numbers, or the bytes of what has a length.
function* fields(data) {
  let at = 0;
  const next = () => {
    const from = at;
    while (data[at++] & 128);
    return [...varints(data.subarray(from, at))][0];
  };
  while (at < data.length) {
    const key = next();
    if ((key & 7) === 0) {
      yield [key >> 3, next()];
    } else {
      const n = (key & 7) === 2 ? next() : (key & 7) === 1 ? 8 : 4;
      yield [key >> 3, data.subarray(at, at + n)];
      at += n;
    }
  }
}

// ---- a result: QueryResult ----

const text = (data) => Buffer.from(data).toString();

function addBatch(result, batch) {
  const cells = [], ints = [], doubles = [], strings = [];
  for (const [field, value] of fields(batch)) {
    if (field === 1) cells.push(...varints(value));
    if (field === 2) ints.push(...varints(value));
    if (field === 3)
      for (let i = 0; i < value.length; i += 8) doubles.push(Buffer.from(value).readDoubleLE(i));
    if (field === 5) strings.push(...text(value).split('\0'));
  }
  for (const kind of cells) {
    result.cells.push(kind === 1 ? null : kind === 2 ? ints.shift()
      : kind === 3 ? doubles.shift() : strings.shift());
  }
}

function addResult(result, data) {
  for (const [field, value] of fields(data)) {
    if (field === 1) result.columns.push(text(value));
    if (field === 2) throw new Error(text(value));
    if (field === 3) addBatch(result, value);
  }
}

function rowsOf(result) {
  const rows = [];
  for (let i = 0; i < result.cells.length; i += result.columns.length)
    rows.push(result.cells.slice(i, i + result.columns.length));
  return rows;
}

// ---- the worker ----

function startWorker() {
  const file = (url) => path.join(dir, path.basename(String(url)));
  const self = {
    TextDecoder, TextEncoder, URL, performance, setTimeout, clearTimeout, queueMicrotask,
    crypto: globalThis.crypto || require('crypto').webcrypto,
    // What it has to say goes to our standard error.
    console: { log: console.error, warn: console.error, error: console.error },
    location: { href: 'http://localhost/engine_bundle.js' },
    importScripts() {},
    XMLHttpRequest: class {
      open(method, url) { this.url = url; }
      send() {
        const data = fs.readFileSync(file(this.url));
        this.response = data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
      }
    },
  };
  self.self = self.WorkerGlobalScope = vm.createContext(self);
  vm.runInContext(fs.readFileSync(file('engine_bundle.js'), 'utf8'), self);
  return self;
}

async function main() {
  const self = startWorker();
  const answers = [];
  const port = { onmessage: null, postMessage: (data) => answers.push(Buffer.from(data)) };
  let seq = 0;
  self.onmessage({ data: port });
  // Its module was compiled on the way; what waits for that has run after this.
  await new Promise((done) => { setTimeout(done, 0); });
  // The engine looks whether it gets its own kind of array.
  const array = vm.runInContext('(b) => Uint8Array.from(b)', self);
  const ask = (method, args) => port.onmessage({
    data: array(bytes(1, Buffer.concat([number(1, ++seq), number(2, method), args]))),
  });
  ask(APPEND, bytes(101, fs.readFileSync(trace)));
  ask(FINALIZE, Buffer.alloc(0));
  for (const sql of queries) {
    const result = { columns: [], cells: [] };
    answers.length = 0;
    ask(QUERY, bytes(103, bytes(1, Buffer.from(sql))));
    for (const [, rpc] of fields(Buffer.concat(answers)))
      for (const [field, value] of fields(rpc)) if (field === 203) addResult(result, value);
    console.log(JSON.stringify(rowsOf(result)));
  }
}

main().catch((e) => { console.error(e); process.exit(1); });

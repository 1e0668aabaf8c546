// SPDX-License-Identifier: MIT
// read_files.js WHAT ROOT: reads a tree in the ways of node's fs, and prints what it got.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const child = require('child_process');
const { pipeline } = require('stream/promises');
const root = process.argv[3];
const at = (...names) => path.join(root, ...names);
const md5 = (data) => crypto.createHash('md5').update(data).digest('hex');
const plain = (s) => [s.size, s.mode, s.isFile(), s.isDirectory(), s.mtimeMs];

const ways = {
	sync() {
		console.log(md5(fs.readFileSync(at('large'))), fs.readFileSync(at('other.txt'), 'utf8'));
		console.log(fs.readdirSync(root).sort(), fs.readdirSync(at('small'), { withFileTypes: true }).filter((e) => e.isFile()).length);
		console.log(plain(fs.statSync(at('large'))), fs.lstatSync(at('small')).isDirectory(), fs.existsSync(at('none')));
		console.log(fs.realpathSync(at('small/../large')), fs.realpathSync.native(at('small/../large')));
		const fd = fs.openSync(at('large'));
		const b = Buffer.alloc(1000);
		console.log(fs.readSync(fd, b, 0, 1000, 12345), md5(b), fs.readSync(fd, b, 0, 8, null), b.readBigUInt64LE(),
			fs.readSync(fd, b, 0, 8, null), b.readBigUInt64LE(), fs.readvSync(fd, [b, Buffer.alloc(70)], 800), md5(b), plain(fs.fstatSync(fd)));
		fs.closeSync(fd);
		for (const call of [() => fs.openSync(at('none')), () => fs.readFileSync(at('small')), () => fs.readdirSync(at('large')), () => fs.accessSync(at('none'))]) {
			try {
				call();
			} catch (e) {
				console.log(e.code, e.syscall);
			}
		}
		fs.copyFileSync(at('large'), process.env.OUT + '/copy');
		console.log(md5(fs.readFileSync(process.env.OUT + '/copy')));
	},
	callbacks() {
		fs.open(at('large'), 'r', (e, fd) => {
			let left = 20;
			for (let i = 0; i < 20; i++) {
				fs.read(fd, Buffer.alloc(40000), 0, 40000, i * 200000, (err, n, b) => {
					seen[i] = [n, md5(b)];
					if (--left === 0) fs.close(fd, () => console.log(seen));
				});
			}
		});
		const seen = [];
		fs.readFile(at('none'), (e) => fs.stat(at('lines.txt'), (e2, s) => setTimeout(() => console.log(e.code, plain(s)), 300)));
	},
	async streams() {
		const hash = crypto.createHash('md5');
		await pipeline(fs.createReadStream(at('large')), hash);
		console.log(hash.digest('hex'));
		for await (const part of fs.createReadStream(at('large'), { start: 1000, end: 5999, highWaterMark: 999 })) console.log(part.length, md5(part));
		await pipeline(fs.createReadStream(at('large')), fs.createWriteStream(process.env.OUT + '/copy'));
		console.log(md5(fs.readFileSync(process.env.OUT + '/copy')));
		let lines = 0;
		for await (const _ of require('readline').createInterface({ input: fs.createReadStream(at('lines.txt')) })) lines++;
		console.log(lines);
	},
	async promises() {
		const p = fs.promises;
		const names = await p.readdir(at('small'));
		const sums = await Promise.all(names.sort().map(async (n) => md5(await p.readFile(at('small', n)))));
		console.log(names.length, md5(sums.join()));
		const f = await p.open(at('large'));
		const { bytesRead, buffer } = await f.read(Buffer.alloc(100000), 0, 100000, 54321);
		console.log(bytesRead, md5(buffer), plain(await f.stat()));
		await f.close();
		for await (const e of await p.opendir(at('small'))) if (e.name === '07') console.log(e.isFile());
		await p.access(at('none')).catch((e) => console.log(e.code));
		await p.copyFile(at('large'), process.env.OUT + '/c');
		if (p.cp) await p.cp(root, process.env.OUT + '/tree', { recursive: true });
		console.log(fs.readdirSync(process.env.OUT).sort());
		const big = await p.stat(at('large'), { bigint: true });
		console.log(big.size, big.mtimeNs);
	},
	child() {
		const fd = fs.openSync(at('large'));
		console.log(child.spawnSync('md5sum', { stdio: [fd, 'pipe', 'inherit'] }).stdout.toString());
		console.log(child.execFileSync('cat', ['other.txt'], { cwd: root }).toString());
		process.chdir(at('small'));
		console.log(process.cwd(), fs.readdirSync('.').length);
	},
	modules() {
		console.log(require(at('module')).answer, require(at('module/data.json')).list.length);
		import(at('module/other.mjs')).then((m) => console.log(m.default));
	},
};
ways[process.argv[2]]();

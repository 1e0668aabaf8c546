// SPDX-License-Identifier: MIT
// ReadFiles WHAT ROOT: reads a tree in the ways of java.io and java.nio, and prints what it got.
import java.io.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.nio.file.attribute.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import java.util.zip.*;

public class ReadFiles {
	static Path root;

	static void say(Object... values) {
		System.out.println(Arrays.stream(values).map(String::valueOf).collect(Collectors.joining(" ")));
	}

	static long sum(ByteBuffer b) {
		CRC32 crc = new CRC32();
		crc.update(b);
		return crc.getValue();
	}

	static void channel() throws Exception {
		try (FileChannel c = FileChannel.open(root.resolve("large"))) {
			ByteBuffer heap = ByteBuffer.allocate(100_000), direct = ByteBuffer.allocateDirect(100_000);
			say(c.size(), c.read(heap), c.position(), sum(heap.flip()));
			say(c.position(123_456).read(direct), c.position(), sum(direct.flip()));
			say(c.read(direct.clear(), 4_799_000), c.position(), sum(direct.flip()), c.read(direct.clear(), 9_999_999));
			ByteBuffer[] several = {ByteBuffer.allocate(10), ByteBuffer.allocateDirect(5000), ByteBuffer.allocate(77)};
			say(c.read(several), Arrays.stream(several).map(b -> sum(b.flip())).collect(Collectors.toList()));
			try {
				c.write(heap);
			} catch (NonWritableChannelException e) {
				say("not writable");
			}
		}
	}

	static void map() throws Exception {
		MappedByteBuffer kept;
		try (FileChannel c = FileChannel.open(root.resolve("large"))) {
			MappedByteBuffer all = c.map(FileChannel.MapMode.READ_ONLY, 0, c.size());
			say(all.capacity(), sum(all), all.load().isReadOnly());
			kept = c.map(FileChannel.MapMode.READ_ONLY, 1_234_567, 100_001);
			try {
				c.map(FileChannel.MapMode.READ_WRITE, 0, 10);
			} catch (NonWritableChannelException e) {
				say("not writable");
			}
		}
		say(sum(kept), kept.order(ByteOrder.LITTLE_ENDIAN).getLong(1));
	}

	static void transfer() throws Exception {
		Path out = Path.of(System.getenv("OUT"), "copy");
		try (FileChannel c = FileChannel.open(root.resolve("large"));
			FileChannel to = FileChannel.open(out, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
			say(c.transferTo(0, c.size(), to), c.transferTo(1000, 5000, to), to.size(), c.position());
			say(to.transferFrom(c, to.size(), 70_000), c.position(), to.size());
			ByteArrayOutputStream bytes = new ByteArrayOutputStream();
			say(c.transferTo(77, 10_000, Channels.newChannel(bytes)), sum(ByteBuffer.wrap(bytes.toByteArray())));
		}
		say(sum(ByteBuffer.wrap(Files.readAllBytes(out))));
		say(Files.copy(root.resolve("large"), Path.of(System.getenv("OUT"), "c2")).toFile().length(),
			Files.mismatch(root.resolve("large"), Path.of(System.getenv("OUT"), "c2")));
		try (InputStream in = Files.newInputStream(root.resolve("large"))) {
			say(in.skip(5000), in.transferTo(OutputStream.nullOutputStream()));
		}
	}

	static void random() throws Exception {
		try (RandomAccessFile f = new RandomAccessFile(root.resolve("large").toFile(), "r")) {
			f.seek(808);
			say(f.length(), Long.reverseBytes(f.readLong()), f.getFilePointer());
			f.seek(f.length() - 8);
			say(Long.reverseBytes(f.readLong()), f.read());
			byte[] some = new byte[50_000];
			f.seek(77);
			f.readFully(some);
			say(sum(ByteBuffer.wrap(some)), f.skipBytes(1000), f.getFilePointer());
		}
		try {
			new RandomAccessFile(root.resolve("none").toFile(), "r");
		} catch (FileNotFoundException e) {
			say(e.getMessage());
		}
	}

	static void streams() throws Exception {
		try (BufferedReader r = new BufferedReader(new FileReader(root.resolve("lines.txt").toFile()))) {
			say(r.readLine(), r.lines().count());
		}
		try (Stream<String> lines = Files.lines(root.resolve("lines.txt")); Scanner s = new Scanner(root.resolve("other.txt"))) {
			say(lines.filter(l -> l.contains("77")).count(), s.next(), s.next());
		}
		try (FileInputStream f = new FileInputStream(root.resolve("large").toFile())) {
			say(f.available(), f.skip(1000), f.read(), f.readAllBytes().length, f.available());
		}
		say(Files.readString(root.resolve("other.txt"), StandardCharsets.UTF_8).length(), Files.size(root.resolve("empty")));
	}

	static void walk() throws Exception {
		try (Stream<Path> all = Files.walk(root)) {
			say(all.map(p -> root.relativize(p).toString()).sorted().collect(Collectors.toList()));
		}
		try (DirectoryStream<Path> d = Files.newDirectoryStream(root, "*.txt"); Stream<Path> l = Files.list(root.resolve("small"))) {
			List<String> names = new ArrayList<>();
			d.forEach(p -> names.add(p.getFileName().toString()));
			Collections.sort(names);
			say(names, l.count(), root.resolve("small").toFile().list().length);
		}
		Path file = root.resolve("large");
		BasicFileAttributes a = Files.readAttributes(file, BasicFileAttributes.class);
		say(a.size(), a.isRegularFile(), a.lastModifiedTime(), Files.getPosixFilePermissions(file), Files.isWritable(root.resolve("none")));
		say(Files.isSymbolicLink(file), Files.isSameFile(file, root.resolve("small/../large")), file.toRealPath(), file.toFile().getCanonicalPath());
		say(Files.getFileStore(file).supportsFileAttributeView("posix"), file.toFile().length(), new File(root.toFile(), "none").exists());
		for (String name : List.of("none", "lines.txt/x"))
			try {
				Files.readAllBytes(root.resolve(name));
			} catch (FileSystemException e) {
				say(e.getClass(), e.getMessage());
			}
	}

	static void watch() throws Exception {
		try (WatchService w = FileSystems.getDefault().newWatchService()) {
			WatchKey key = root.resolve("small").register(w, StandardWatchEventKinds.ENTRY_CREATE, StandardWatchEventKinds.ENTRY_MODIFY);
			Files.readAllBytes(root.resolve("small/00"));
			say(w.poll(200, TimeUnit.MILLISECONDS), key.isValid());
			key.cancel();
			say(key.isValid());
		}
	}

	static void async() throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(4);
		try (AsynchronousFileChannel c = AsynchronousFileChannel.open(root.resolve("large"), Set.of(StandardOpenOption.READ), pool)) {
			List<ByteBuffer> buffers = new ArrayList<>();
			List<Future<Integer>> reads = new ArrayList<>();
			for (int i = 0; i < 50; i++) {
				buffers.add(ByteBuffer.allocate(90_000));
				reads.add(c.read(buffers.get(i), i * 95_000L));
			}
			long total = 0;
			for (int i = 0; i < 50; i++)
				total += reads.get(i).get() * 31L + sum(buffers.get(i).flip());
			CompletableFuture<Integer> handled = new CompletableFuture<>();
			c.read(ByteBuffer.allocate(10), 4_799_995, null, new CompletionHandler<Integer, Void>() {
				public void completed(Integer n, Void v) { handled.complete(n); }
				public void failed(Throwable e, Void v) { handled.completeExceptionally(e); }
			});
			say(total, handled.get(), c.size());
		}
		pool.shutdown();
	}

	static void process() throws Exception {
		Process p = new ProcessBuilder("md5sum").redirectInput(root.resolve("large").toFile()).start();
		say(new String(p.getInputStream().readAllBytes()).trim(), p.waitFor());
		p = new ProcessBuilder("sh", "-c", "pwd; cat other.txt").directory(root.toFile()).redirectErrorStream(true).start();
		say(new String(p.getInputStream().readAllBytes()), p.waitFor());
	}

	static void jar() throws Exception {
		try (ZipFile z = new ZipFile(root.resolve("packed.jar").toFile()); FileSystem f = FileSystems.newFileSystem(root.resolve("packed.jar"))) {
			say(z.size(), z.getInputStream(z.getEntry("ReadFiles.class")).readAllBytes().length == Files.size(f.getPath("/ReadFiles.class")));
		}
	}

	public static void main(String[] args) throws Exception {
		root = Path.of(args[1]);
		ReadFiles.class.getDeclaredMethod(args[0]).invoke(null);
	}
}

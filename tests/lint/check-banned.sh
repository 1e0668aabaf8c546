#!/bin/sh
# SPDX-License-Identifier: MIT
# What the house does not use, and what the library must not do in the program
# that it was loaded into.  Where one stands for a reason, the line or the line
# above says so: "lint: malloc: stdio frees the name with free()".
set -u
cd "${DZ_TOP:-.}" || exit 1

# Comments and strings blanked, so that only code is looked at; line numbers stay.
git ls-files 'cache/*.[ch]' 'shim/*.[ch]' 'tools/*.[ch]' 'include/*.h' | while read -r file; do
	awk -v file="$file" '
	function strip(s,    out, c, i) {
		out = ""
		for (i = 1; i <= length(s); i++) {
			c = substr(s, i, 2)
			if (in_comment) {
				if (c == "*/") { in_comment = 0; i++ }
				continue
			}
			if (c == "/*") { in_comment = 1; i++; continue }
			if (c == "//") break
			c = substr(s, i, 1)
			if (c == "\"") {
				for (i++; i <= length(s) && substr(s, i, 1) != "\""; i++)
					if (substr(s, i, 1) == "\\") i++
				out = out "\"\""
				continue
			}
			if (c == "\047") { # a character
				for (i++; i <= length(s) && substr(s, i, 1) != "\047"; i++)
					if (substr(s, i, 1) == "\\") i++
				out = out "0"
				continue
			}
			out = out c
		}
		return out
	}
	function report(word, why) {
		if (index(last, "lint: " word ":") || index($0, "lint: " word ":")) return
		printf "%s:%d: %s: %s\n", file, FNR, word, why
	}
	function call(word) { return code ~ ("(^|[^A-Za-z0-9_.>])" word "[ ]*\\(") }
	BEGIN {
		n = split("strcpy strcat sprintf vsprintf strtok gets alloca atoi atol rand srand", banned, " ")
		m = split("malloc calloc realloc free strdup strndup asprintf", heap, " ")
		k = split("exit abort _exit atexit setenv unsetenv putenv setlocale sigaction signal" \
			" pthread_create system popen printf fprintf", host, " ")
	}
	{
		code = strip($0)
		for (i = 1; i <= n; i++) if (call(banned[i])) report(banned[i], "not used here")
		if (file ~ /^shim\//) {
			for (i = 1; i <= m; i++) if (call(heap[i])) report(heap[i], "the shim does not allocate")
			for (i = 1; i <= k; i++) if (call(host[i])) report(host[i], "not in the program of another")
		}
		if (code ~ /(^|[^a-z_])volatile([^a-z_]|$)/ && code !~ /(__asm__|asm) (__)?volatile/)
			report("volatile", "use an atomic")
		if ($0 ~ /(TODO|FIXME|XXX)/ && $0 !~ /XXXXXX/ && $0 !~ /(TODO|FIXME)[ (]*#[0-9]+/)
			report("TODO", "without the number of an issue")
		if (code ~ /^}/) delete seen
		if (match(code, /^[a-z_][a-z_0-9]*:/)) seen[substr(code, 1, RLENGTH - 1)] = 1
		if (match(code, /goto [a-z_0-9]+/) && (substr(code, RSTART + 5, RLENGTH - 5) in seen))
			report("goto", "upwards: write a loop")
		last = $0
	}' "$file"
done | { ! grep .; }

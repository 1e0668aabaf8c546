#!/bin/bash
# SPDX-License-Identifier: MIT
# The completion for bash, asked as bash asks it: every command, every option that its
# --help has in the first column, files elsewhere.
set -u
PATH=$DZ_BUILD:$PATH
cd "$TMPDIR" || exit
# shellcheck source=/dev/null
. "$DZ_TOP/tools/completion/dz.bash"

# What Tab offers behind the words, the last of which is not complete.
offers()
{
	COMP_WORDS=("$@")
	COMP_CWORD=$(($# - 1))
	_dz
	printf '%s\n' "${COMPREPLY[@]}" | sort | tr '\n' ' '
}

n=0
ret=0
is()
{
	n=$((n + 1))
	if [ "$2" = "$3" ]; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1: got '$2', want '$3'"
		ret=1
	fi
}

mapfile -t commands < <(dz --list-commands)
echo "1..$((6 + ${#commands[@]}))"
is 'it is the completion of dz' "$(complete -p dz)" 'complete -o filenames -F _dz dz'
is 'the first word is a command or an option of dz' "$(offers dz '')" \
	"$(printf '%s\n' "${commands[@]}" --help --version | sort | tr '\n' ' ')"
is 'a word begun is ended' "$(offers dz tr)" 'trace trial '
is 'an option begun is ended' "$(offers dz trace --fo)" '--format '
touch recording.1 recording.2
is 'other words are files' "$(offers dz replay rec)" 'recording.1 recording.2 '
is 'behind -- nothing of ours is offered' "$(offers dz run -m /m=u -- --re)" ' '
for command in "${commands[@]}"; do
	mistaken=''
	for option in $(offers dz "$command" -); do
		dz "$command" --help | grep -qE -e "^ +(-.*[ ,])?$option([ ,=]|\$)" ||
			mistaken="$mistaken $option"
	done
	offered=" $(offers dz "$command" -)"
	for option in $(dz "$command" --help | grep -oE '^ +(-[a-zA-Z], )?--[a-z-]+' |
		grep -oE -- '-.*' | tr -d ,); do
		[ "${offered#* "$option" }" != "$offered" ] || mistaken="$mistaken not:$option"
	done
	is "options of dz $command" "$mistaken" ''
done
exit $ret

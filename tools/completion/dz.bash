# SPDX-License-Identifier: MIT
# Completion of dz for bash.  It asks the tool and holds no lists of its own.
# shellcheck shell=bash

_dz()
{
	local cur=${COMP_WORDS[COMP_CWORD]} i
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "$(dz --list-commands 2>/dev/null) --help --version" -- "$cur")
		return
	fi
	# After --, or at the first word of `dz run` that is no option: a command of its own.
	for ((i = 2; i < COMP_CWORD; i++)); do
		if [[ ${COMP_WORDS[i]} == -- ]]; then
			_command_offset $((i + 1)) 2>/dev/null
			return
		fi
	done
	if [[ $cur == -* ]]; then
		local options
		# What stands in the first column of its --help.
		options=$(dz "${COMP_WORDS[1]}" --help 2>/dev/null |
			sed -n 's/^ \{1,\}\(-.*\)/\1/p' | sed 's/  .*//' |
			grep -oE -- '(^|[ ,])--?[a-zA-Z][a-zA-Z-]*' | tr -d ' ,')
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	fi
}
complete -o filenames -F _dz dz

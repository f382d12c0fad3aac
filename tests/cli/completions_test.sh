#!/bin/sh
# completions_test.sh BERTH bash|zsh|fish - the completion script in its shell: its syntax, and what it offers where.
# Ends with 77 (skipped) where the shell is not there.
berth=$1
shell=$2
command -v "$shell" > /dev/null || { echo "skipped: there is no $shell here"; exit 77; }
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
PATH=$(dirname "$berth"):$PATH
export PATH
mkdir "$folder/models" "$folder/functions"
"$berth" completions "$shell" > "$folder/functions/_berth" || exit 1
"$shell" -n "$folder/functions/_berth" || { echo "the script for $shell has an error"; exit 1; }
cd "$folder" || exit 1

# What is offered for a line, one word a line.
offered_bash()
{
    bash --norc -c '
        source functions/_berth
        read -r -a COMP_WORDS <<< "$1"
        case $1 in *" ") COMP_WORDS+=("") ;; esac
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _berth
        printf "%s\n" "${COMPREPLY[@]}"' bash "$1"
}

offered_fish()
{
    fish --no-config -c 'source functions/_berth; complete -C $argv[1]' "$1" | cut -f1
}

# zsh completes only on a terminal: one is made inside of it, and what stands there after two tabs is read, up to what
# the line that follows prints.
offered_zsh()
{
    zsh -f -c '
        zmodload zsh/zpty
        zpty shell "TERM=dumb COLUMNS=200 zsh -f -i"
        zpty -w shell "PS1=; unset zle_bracketed_paste; fpath=($PWD/functions \$fpath); autoload -U compinit; compinit -u -d $PWD/dump"
        zpty -w shell "LISTMAX=0; PS1=ze\"\"le:"
        zpty -r shell output "*zele:*"
        zpty -w -n shell "$1"$'"'\\t\\t\\x15'"'"echo do\"\"ne"$'"'\\n'"'
        zpty -r shell output "*done*"
        print -r -- "$output"
        zpty -d shell' zsh "$1" 2>/dev/null | tr '\r\007' '\n\n' | tr -s ' ' '\n' | sed 's,=$,,'
}

expect() # expect "line" word...: each is offered
{
    line=$1
    shift
    got=$("offered_$shell" "$line")
    for word in "$@"; do
        if ! printf '%s\n' "$got" | grep -qxF -e "$word"; then
            printf '%s: "%s" does not offer "%s" but\n%s\n' "$shell" "$line" "$word" "$got"
            exit 1
        fi
    done
}

expect 'berth ' plan run explain devices strategies completions
expect 'berth plan --vision-d' --vision-device
expect 'berth completions ' bash zsh fish
expect 'berth plan --strategy balanced' balanced balanced_low_0
case $shell in
bash) expect 'berth plan --model mod' models ;;
*) expect 'berth plan -m mod' models/ ;;
esac
echo "$shell: complete"

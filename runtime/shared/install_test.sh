#!/bin/sh
# install_test.sh BUILD COMPILER EXAMPLE CMAKE MODEL - what `cmake --install` puts into a folder is all there, and a program can be
# built against it with nothing but pkg-config.
set -eu
build=$1 compiler=$2 example=$3 cmake=$4 model=$5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
DESTDIR=$work "$cmake" --install "$build" >"$work/log" || {
    cat "$work/log"
    exit 1
}
for pattern in bin/berth include/berth/berth.h include/berth/strategy.h include/berth/status.h share/man/man1/berth.1 \
    share/bash-completion/completions/berth share/zsh/site-functions/_berth share/fish/vendor_completions.d/berth.fish; do
    [ -n "$(find "$work" -path "*/$pattern" -size +0)" ] || {
        echo "not installed, or empty: $pattern"
        exit 1
    }
done
pc=$(find "$work" -name berth.pc)
PKG_CONFIG_PATH=$(dirname "$pc") PKG_CONFIG_SYSROOT_DIR=$work
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
# shellcheck disable=SC2046 # words are wanted
"$compiler" -std=c11 -Wall -Wextra -Wpedantic -Werror "$example" -o "$work/example" $(pkg-config --cflags --libs berth)
if command -v c++ >/dev/null; then
    # shellcheck disable=SC2046
    printf '#include <berth/berth.h>\n#include <berth/strategy.h>\n' |
        c++ -x c++ -fsyntax-only -Wall -Wextra -Werror $(pkg-config --cflags berth) -
fi
LD_LIBRARY_PATH=$(dirname "$(find "$work" -name libberth.so)") "$work/example" "$model"
"$(find "$work" -path '*/bin/berth')" --version
bash -n "$(find "$work" -path '*/bash-completion/completions/berth')"

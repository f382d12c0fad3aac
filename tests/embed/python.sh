#!/bin/sh
# python.sh SCRIPT ARGUMENTS... - runs it under python3; skipped, with the reason, where that is not there or too old.
command -v python3 >/dev/null || {
    echo "skipped: python3 is not installed"
    exit 77
}
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || {
    echo "skipped: $(python3 --version) is older than 3.9"
    exit 77
}
exec python3 "$@"

# Reads a directory: where the content comes from, and on the machine. move_files_read.py writes
#   set -- DIRECTORY
# before it. It needs no more than what Debian's slim images and busybox have, and writes nothing anywhere.
#
# Says on standard output:  @@rehost here, or  @@rehost missing
# Reads on standard input orders, one a line. NAMES stand as printf's %b takes them, each ended by a NUL. An order is
#   list                says  MODE UID GID MTIME CTIME SIZE BLOCKS LINKS INODE NAME//  of everything (MODE hexadecimal),
#                       no NAME//  of what may not be read, at last  end TIME ERRORS//
#   hash NAMES          says what sha256sum says of these files, at last  end
#   sums COUNT NAME     says the SHA-256 of each of the COUNT pieces of 8 MB of this file
#   files NAMES         says a tar archive, or several, and a block of 512 bytes that begins with @@rehost-end
#   piece NUMBER BYTES NAME   says so many bytes of that piece; zeros when the file has become shorter
# Every name begins with ./, and none holds two slashes.
set -u
export LC_ALL=C
unset TAR_OPTIONS
# What serves comes first.
renice -n 19 -p $$ >/dev/null 2>&1 || :
if [ -z "$1" ] || [ ! -d "$1" ]; then
    echo '@@rehost missing'
    exit
fi
cd "$1" || exit 77
echo '@@rehost here'
exec 3>&1
# Only GNU's tar ends an archive well, whatever becomes of the files meanwhile. It writes small blocks unless it is told.
case $(tar --version 2>&1) in *GNU*) gnu='-b 128' ;; *) gnu= ;; esac

# found TEST...: all names for which find's tests hold. The file system's own lost+found is none of the content.
found() { find . -path ./lost+found -prune -o "$@" -print0; }

list() {
    began=$(date +%s)
    errors=$({ found | xargs -0 -r stat -c '%f %u %g %Y %Z %s %b %h %i %n//' >&3; } 2>&1)
    if [ "$(id -u)" != 0 ]; then
        # shellcheck disable=SC2016  # the other sh expands it
        found '(' -type f -o -type d ')' 2>/dev/null | xargs -0 -r sh -c '
            for name; do
                if [ ! -r "$name" ] || { [ -d "$name" ] && [ ! -x "$name" ]; }; then
                    if [ -e "$name" ]; then printf "no %s//\n" "$name"; fi
                fi
            done' sh
    fi
    printf 'end %s %s//\n' "$began" "$errors"
}

# name ENCODED: sets $name. The point keeps a new line at its end.
name() {
    name=$(printf '%b.' "$1")
    name=${name%.}
}

# piece NUMBER: of the file $name. One that is no file any more must not be waited for.
piece() {
    [ -f "$name" ] || return 0
    dd if="$name" bs=1048576 skip="$(($1 * 8))" count=8 2>/dev/null </dev/null
}

# whole NUMBER: a piece of 8 MB, in blocks that are large enough for a quick line, which head(1) does not write.
whole() {
    had=0
    if [ -f "$name" ]; then
        # dd tells how many blocks it read, FULL+PARTIAL, and fills up a partial one.
        said=$(dd if="$name" bs=1048576 skip="$(($1 * 8))" count=8 conv=sync 2>&1 >&3 </dev/null)
        said=${said%%" records"*}
        had=$((${said%%+*} + ${said#*+}))
    fi
    if [ "$had" -lt 8 ]; then dd if=/dev/zero bs=1048576 count="$((8 - had))" 2>/dev/null; fi
}

while read -r order rest; do
    case $order in
    list) list ;;
    hash)
        printf '%b' "$rest" | xargs -0 sha256sum
        echo end
        ;;
    sums)
        name "${rest#* }"
        at=0
        while [ "$at" -lt "${rest%% *}" ]; do
            piece "$at" | sha256sum
            at=$((at + 1))
        done
        ;;
    files)
        # shellcheck disable=SC2086  # two words, or none
        printf '%b' "$rest" | xargs -0 tar $gnu -cf -
        status=$?
        printf '%-511s\n' @@rehost-end
        if [ "$status" != 0 ] && [ -z "$gnu" ]; then exit 0; fi
        ;;
    piece)
        number=${rest%% *} rest=${rest#* }
        name "${rest#* }"
        if [ "${rest%% *}" = 8388608 ]; then
            whole "$number"
        else
            # cat is told to stop by the pipe, which is no error.
            { piece "$number"; cat /dev/zero 2>/dev/null; } | head -c "${rest%% *}"
        fi
        ;;
    *)
        echo "not understood: $order" >&2
        exit 76
        ;;
    esac
done

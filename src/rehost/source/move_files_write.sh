# Writes the copy of a directory on this machine, as root. move_files_write.py writes
#   set -- DIRECTORY
# before it: the move's own directory; the copy is DIRECTORY/copy.
#
# Says on standard output:  @@rehost free BYTES INODES
# Reads on standard input orders, one a line, with NAMES as move_files_read.sh has them:
#   remove NAMES, mkdir NAMES
#   tar BYTES                   and that many bytes of a tar archive
#   size BYTES NAME             makes the file so long, with zeros at its end
#   piece NUMBER BYTES NAME     and that many bytes: the file's piece of 8 MB with that number
#   chown UID:GID NAMES, chmod MODE NAMES, touch MTIME NAMES
#   done
# Says at last:  @@rehost done
#
# Whatever was cut off leaves files that differ from the origin's: the next run finds and mends them.
set -eu
export LC_ALL=C
umask 077
moving=$1
(umask 022 && mkdir -p "${moving%/*}")
mkdir -p "$moving"
# Who writes has the lock, with all that it started. One whose client is gone may hang on a dead connection for hours:
# its processes, which all have the lock, are ended.
exec 9>>"$moving/lock"
if ! flock -n 9; then
    read -r group <"$moving/lock" || :
    kill -s KILL -- "-$group" || :
    flock -w 10 9 || { echo 'another copy of the same is being made' >&2 && exit 78; }
fi
read -r _ _ _ _ group _ <"/proc/$$/stat"
printf '%s\n' "$group" >"$moving/lock"
# A swap that took its copy along is over (move_files_swap.sh).
[ -d "$moving/copy" ] || rm -f "$moving/swapping"
mkdir -p "$moving/copy"
cd "$moving/copy"

echo "@@rehost free $(df -B1 --output=avail,iavail . | tail -n 1)"

names() { printf '%b' "$1"; }
cut_off() {
    echo 'the connection ended too early' >&2
    exit 75
}

while read -r order first rest; do
    case $order in
    remove) names "$first" | xargs -0 rm -rf -- ;;
    mkdir) names "$first" | xargs -0 mkdir -p -- ;;
    tar) head -c "$first" | tar -x -p --same-owner --numeric-owner -f - ;;
    size)
        name=$(printf '%b.' "$rest")
        truncate -s "$first" -- "${name%.}"
        ;;
    piece)
        name=$(printf '%b.' "${rest#* }")
        head -c "${rest%% *}" |
            dd of="${name%.}" bs=1048576 seek="$((first * 8))" conv=notrunc iflag=fullblock status=none
        ;;
    chown) names "$rest" | xargs -0 chown -- "$first" ;;
    # Five digits: with fewer, chmod leaves the set-group-id bit of a directory as it was.
    chmod) names "$rest" | xargs -0 chmod -- "$first" ;;
    touch) names "$rest" | xargs -0 touch -c -d "@$first" -- ;;
    done)
        sync -f .
        echo '@@rehost done'
        exit
        ;;
    *)
        echo "not understood: $order" >&2
        exit 76
        ;;
    esac
done
cut_off

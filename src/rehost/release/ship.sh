# Brings the build context on this machine to what the other side has. ship.py writes
#   set -- ROOT WANTED HOLDER
# before it: the directory, the fingerprint of what shall be in it, and who is shipping.
#
# Says on standard output:  busy HOLDER (and waits), then
#                           same, or  have BYTES  and that many bytes: the gzipped list of what is here.
# Reads on standard input:  remove BYTES, mkdir BYTES, chmod MODE BYTES: followed by that many bytes of names
#                           ended by NUL; at last  files  and a gzipped tar archive to the end of the input, or  end.
# Says at last:             done FINGERPRINT  of what is here now.
#
# Whatever was cut off before leaves real files with other hashes: the next run puts them right.
set -eu
export LC_ALL=C
umask 077
root=$1 wanted=$2 holder=$3
work=$root.ship

# Kind, mode, name and link target of everything, then the hash of each file's bytes. No name holds a NUL or
# a double slash. Nothing remembered is trusted: what lies on the disk is read.
list() {
    find . -mindepth 1 -printf '%y %m %p//%l\0' | sort -z
    find . -type f -print0 | xargs -0 -r sha256sum -z | sort -z
}

fingerprint() {
    sum=$(sha256sum <"$work/list")
    sum=${sum%% *}
}

cut_off() {
    echo 'the connection ended too early' >&2
    exit 75
}

# Takes $1 bytes of names from the input. A list cut off could end in half a name: nothing of it is used.
names() {
    head -c "$1" >"$work/names"
    [ "$(wc -c <"$work/names")" -eq "$1" ] || cut_off
}

mkdir -p "$root"
# The lock belongs to the open file: it goes when this script ends, however it ends.
exec 9>>"$root.lock"
if ! flock -n 9; then
    printf 'busy %s\n' "$(head -n 1 "$root.lock")"
    flock 9
fi
printf '%s\n' "$holder" >"$root.lock"

rm -rf "$work"
mkdir "$work"
trap 'rm -rf "$work"' EXIT
cd "$root"
list >"$work/list"
fingerprint
if [ "$sum" = "$wanted" ]; then
    printf '%s\n' "$sum" >"$root.shipped"
    echo same
    exit
fi
gzip -1 "$work/list"
printf 'have %s\n' "$(wc -c <"$work/list.gz")"
cat "$work/list.gz"

whole=no
while read -r what first second; do
    # A build looks here whether what lies in the directory is what it is meant to build.
    if [ -e "$root.shipped" ]; then rm "$root.shipped"; fi
    case $what in
    remove)
        names "$first"
        xargs -0 -r rm -rf -- <"$work/names"
        ;;
    mkdir)
        names "$first"
        xargs -0 -r mkdir -- <"$work/names"
        ;;
    chmod)
        names "$second"
        xargs -0 -r chmod -- "$first" <"$work/names"
        ;;
    files)
        # Times are those of arrival (-m): BuildKit takes a file of the same size and time for unchanged, so a
        # changed file must always get a new time. Owner is who runs this: root.
        tar -x -z -p -m --no-same-owner -f -
        whole=yes
        break
        ;;
    end)
        whole=yes
        break
        ;;
    *)
        echo "not understood: $what" >&2
        exit 76
        ;;
    esac
done
[ "$whole" = yes ] || cut_off
list >"$work/list"
fingerprint
printf '%s\n' "$sum" >"$root.shipped"
printf 'done %s\n' "$sum"

# Puts the copy in the place of a volume's directory, or what was there back. move_files.py writes
#   set -- swap|undo VOLUME
# before it. It is the body of a function in move.sh, which sets $app and $moving; no container has the volume now.
#
# $moving/copy is the copy, $moving/before what was there, $moving/swapping says that a swap has begun. A swap is two
# renames: data to before, copy to data. Where one was cut off shows in which of the three are there.
: "${app:?}" "${moving:?}"
volume=$2
fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

docker volume inspect "$volume" >/dev/null 2>&1 ||
    docker volume create --label "rehost.app=$app" "$volume" >/dev/null || exit 1
data=$(docker volume inspect -f '{{.Mountpoint}}' "$volume") || exit 1
used=$(docker ps --filter "volume=$volume" --format '{{.Names}}') || exit 1
[ -n "$data" ] || fail "Docker does not say where the volume $volume is"
[ -z "$used" ] || fail "the volume $volume is in use by $used"
copy=$moving/copy before=$moving/before swapping=$moving/swapping

case $1 in
swap)
    if [ -d "$copy" ]; then
        if [ ! -e "$swapping" ]; then
            [ -d "$data" ] || fail "the volume's directory $data is not there"
            rm -rf "$before" || exit 1 # of an earlier swap
            : >"$swapping" || exit 1
        fi
        if [ ! -d "$before" ]; then mv -T "$data" "$before" || exit 1; fi
        # An empty one may have been made in its place; anything in it would be somebody's.
        if [ -d "$data" ]; then rmdir "$data" || exit 1; fi
        mv -T "$copy" "$data" || exit 1
        sync -f "$moving" || exit 1
    fi
    { [ -d "$data" ] && [ -e "$swapping" ]; } || fail "there is no copy to put into the volume $volume"
    ;;
undo)
    if [ -e "$swapping" ]; then
        if [ -d "$before" ]; then
            if [ ! -d "$copy" ]; then
                mv -T "$data" "$copy" || exit 1
            elif [ -d "$data" ]; then
                rmdir "$data" || exit 1
            fi
            mv -T "$before" "$data" || exit 1
        fi
        rm "$swapping" || exit 1
        sync -f "$moving" || exit 1
    fi
    ;;
esac

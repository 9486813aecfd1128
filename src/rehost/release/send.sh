# Brings an image into this machine's Docker: only the layers that it lacks travel. send.py writes
#   set -- DIRECTORY TAG IMAGE HOLDER
# before it: where layers wait until all are there, the image's name and id, and who sends.
#
# Says on standard output:  busy HOLDER (and waits), then
#                           same, or  have BYTES  and that many bytes, gzipped: lines of
#                             chain ["sha256:...", ...]   the layers of an image that is here, lowest first
#                             whole LAYER                 a layer that arrived earlier
#                             part LAYER SIZE SHA256      the beginning of one
#                             free BYTES                  room where Docker keeps images
# Reads on standard input:  drop LAYER; layer LAYER OFFSET, then  bytes COUNT  and that many bytes as often as it takes,
#                           then  sealed LAYER; at last  load BYTES LAYER...  and a gzipped tar archive of so many bytes
#                           with manifest.json and the image's configuration.
# Says at last:             loaded IMAGE, or  refused, and why on standard error
#
# What was cut off stays: a layer's name is the digest of its content, which Docker compares.
set -eu
export LC_ALL=C
umask 077
dir=$1 tag=$2 image=$3 holder=$4

cut_off() {
    echo 'the connection ended too early' >&2
    exit 75
}

mkdir -p "$dir"
# The lock belongs to the open file: it goes when this script ends, however it ends.
exec 9>>"$dir.lock"
if ! flock -n 9; then
    printf 'busy %s\n' "$(head -n 1 "$dir.lock")"
    flock 9
fi
printf '%s\n' "$holder" >"$dir.lock"
cd "$dir"
rm -rf head loaded

if docker image inspect "$image" >/dev/null 2>&1; then
    docker tag "$image" "$tag"
    rm -rf "$dir"
    echo same
    exit
fi
info=$(docker info --format '{{.DockerRootDir}}
{{json .DriverStatus}}')
case $info in
/*) ;;
*) # docker(1) ends well all the same
    echo 'Docker on the machine does not answer' >&2
    exit 78
    ;;
esac
{
    # Docker's containerd store knows layers by other digests; it gets whole images.
    case $info in
    *io.containerd.snapshotter*) ;;
    *)
        # One that goes at this moment is an error, and no matter.
        docker image ls --all --quiet --no-trunc | sort -u |
            xargs -r docker image inspect --format 'chain {{json .RootFS.Layers}}' || :
        ;;
    esac
    for layer in *; do
        case $layer in
        '*') ;; # there is none
        *.part)
            sum=$(sha256sum <"$layer")
            echo "part ${layer%.part} $(stat -c %s "$layer") ${sum%% *}"
            ;;
        *) echo "whole $layer" ;;
        esac
    done
    echo "free $(df -B1 --output=avail "${info%%
*}" | tail -n 1)"
} | gzip -1 >"$dir.have"
printf 'have %s\n' "$(stat -c %s "$dir.have")"
cat "$dir.have"
rm "$dir.have"

while read -r what first second; do
    case $what in
    drop) rm -f "$first" "$first.part" ;;
    layer)
        layer=$first.part
        : >>"$layer"
        truncate -s "$second" "$layer"
        ;;
    bytes) head -c "$first" >>"$layer" ;;
    sealed) mv "$first.part" "$first" ;;
    load)
        rm -rf head
        mkdir head
        head -c "$first" >head/tar
        [ "$(stat -c %s head/tar)" -eq "$first" ] || cut_off
        tar -xzf head/tar -C head
        rm head/tar
        # shellcheck disable=SC2086  # digests, on purpose
        if ! tar -cf - -C head . -C "$dir" $second | docker load --quiet >loaded 2>&1; then
            cat loaded >&2
            echo refused
            # A layer that is not what its name says would be taken for whole for ever.
            case $(cat loaded) in *'invalid diffID'* | *'invalid tar header'* | *gzip*) rm -rf "$dir" ;; esac
            exit 77
        fi
        # A configuration and its layers were checked against their digests by now.
        echo "loaded $(docker image inspect --format '{{.Id}}' "$tag")"
        rm -rf "$dir"
        exit
        ;;
    *)
        echo "not understood: $what" >&2
        exit 76
        ;;
    esac
done
cut_off

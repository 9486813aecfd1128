# Pulls an image by its digest. pull.py writes
#   set -- NAME DIGEST REPOSITORY TAG PLATFORM
# and a function `auth` before it, which prints curl's options that are nobody's to see. Goes by standard input.
#
# Says on standard output:  Docker's own progress, a JSON object a line; then  @status CODE
#                           @image ID       it is here, under the name REPOSITORY:TAG
#                           @platform NAME  it is for another kind of machine, and was taken away again
export LC_ALL=C
name=$1 digest=$2 tag=$3:$4 platform=$5
form='{{.Id}} {{.Os}}/{{.Architecture}}'

had=$(docker image inspect --format "$form" "$name@$digest" 2>/dev/null)
if [ -z "$had" ]; then
    auth | curl -sSN -K - --unix-socket /run/docker.sock -X POST -w '\n@status %{http_code}\n' \
        "http://docker/images/create?fromImage=$name&tag=$digest" || exit
fi
found=${had:-$(docker image inspect --format "$form" "$name@$digest" 2>/dev/null)}
case $found in
'') exit 0 ;; # the progress said why
*" $platform")
    docker tag "${found%% *}" "$tag" || exit
    echo "@image ${found%% *}"
    ;;
*) echo "@platform ${found#* }" ;;
esac
# Our name alone keeps it: without that name it may go. What was there before is somebody's.
[ -n "$had" ] || docker rmi "$name@$digest" >/dev/null

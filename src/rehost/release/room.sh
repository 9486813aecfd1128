# Makes room on the machine's disk: drops what is the app's own and unused, then Docker's build cache. Parameters stand
# above: APP, PRUNE, PRUNE_IMAGES, NEED (bytes that must be free), CACHE (bytes of build cache that may stay).
set -u
export LC_ALL=C
home=/var/lib/rehost/$APP
N=
old=$(cat "$home/live/b" 2>/dev/null || cat "$home/live/a" 2>/dev/null)
free() { df -B1 --output=avail /var/lib | tail -n 1; }
before=$(free)
# No release may begin meanwhile: it might be a return to one that goes. One that runs already makes room by itself.
mkdir -p "$home/release"
exec 8>>"$home/release/lock"
flock 8
case $(systemctl show -p ActiveState --value "rehost-$APP-release.service") in
  active | activating | deactivating | reloading) PRUNE='' PRUNE_IMAGES='' ;;
esac
prune
# The cache holds on to layers of images that are gone. It is nobody's data: without it the next build takes longer.
docker builder prune -af --keep-storage "$CACHE" >/dev/null 2>&1
if [ "$(free)" -lt "$NEED" ]; then docker builder prune -af >/dev/null 2>&1; fi
echo "$before $(free)"

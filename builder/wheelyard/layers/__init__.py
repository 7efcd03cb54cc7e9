"""Wheels in, reproducible layers out: a layer is a pure function of its wheels.

The library reads wheels and writes gzip-compressed tar layers whose DEFLATE streams are the wheels'
own, copied. It knows no image, no setting, no network and no terminal, imports nothing else of
wheelyard, and raises `errors.LayersError`. The calls:

    environment = Environment("opt/venv", "3.11", kinds={})
    wheel = WheelInput(Path("demo-1.0-py3-none-any.whl"), "demo", "1.0", sha256="...")
    layer = write_layer(Path("blob"), [wheel], environment)     # layer.digest, layer.diff_id
    entries = toc.parse(toc.beside(Path("blob")).read_text(), layer.digest)
    content = toc.read_content(Path("blob"), entries[-1])       # inflates this file alone
    again = write_layer(Path("blob2"), [wheel], environment, known=layer)  # inflates nothing

`wheels` has write_layer, write_bytecode and WheelInput; `install` the Environment and what goes
where; `layer` the writer under both, for any other files.
"""

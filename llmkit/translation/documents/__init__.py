"""Files taken apart into texts to translate, and put together again with everything else as it was. A format a module."""

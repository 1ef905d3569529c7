"""Copy-paste: objects of rare classes put into other training images."""

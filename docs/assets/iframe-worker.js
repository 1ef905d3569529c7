/* Search for pages that are opened from the disk. Browsers start no worker from file: addresses, so
   the worker's script runs in a hidden frame there. Pages from a server keep the browser's Worker. */
if (location.protocol === "file:") {
  window.Worker = class FrameWorker extends EventTarget {
    constructor(url) {
      super()
      this.waiting = [] // messages until the script is there
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.documentElement.appendChild(this.frame)
      const inner = this.frame.contentWindow
      inner.importScripts = () => {} // languages other than English
      inner.postMessage = (data) =>
        this.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) }))
      const script = inner.document.createElement("script")
      script.src = url
      script.onload = () => {
        for (const data of this.waiting.splice(0)) this.deliver(data)
        this.waiting = null
      }
      inner.document.body.appendChild(script)
    }

    deliver(data) {
      const inner = this.frame.contentWindow
      inner.dispatchEvent(new inner.MessageEvent("message", { data: structuredClone(data) }))
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data)
      else this.deliver(data)
    }

    terminate() {
      this.frame.remove()
    }
  }
  window.IFrameWorker = window.Worker // the worker's script asks for this name
}
